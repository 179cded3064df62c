// A hot loop that the engine compiles at run time. argv[2]: iterations.
let sum = 0;
for (let i = 0, n = Number(process.argv[2]); i < n; ++i) sum = (sum * 31 + (i ^ (i >> 3))) % 1000003;
console.log(sum);
