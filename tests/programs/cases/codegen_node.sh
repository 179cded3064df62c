# Optimized, deoptimized and collected code; regular expressions and WebAssembly, each with a compiler of its own; in threads too.
# sandbox: whole
# needs: node
cat >codegen.js <<'EOF'
const crypto = require("crypto");
function hot(n) { let s = 1; for (let i = 0; i < n; i++) s = (Math.imul(s, 31) + (i ^ (s >>> 3))) | 0; return s; }
console.log(hot(2e7));
// Types that change after optimization: each is a deoptimization.
function add(a, b) { return a + b; }
let mixed = 0; for (let i = 0; i < 3e5; i++) { const r = add(i, i % 1000 === 0 ? "1" : 2); mixed = (mixed * 31 + (typeof r === "string" ? r.length : r)) | 0; }
console.log(mixed);
class Shape { area() { return 0; } } const classes = Array.from({ length: 12 }, (_, k) => class extends Shape { constructor() { super(); this["p" + k] = k; } area() { return k * k + this["p" + k]; } });
let area = 0; const shapes = Array.from({ length: 1000 }, (_, i) => new classes[i * 7 % 12]()); for (let r = 0; r < 500; r++) for (const s of shapes) area += s.area();
console.log(area);
let made = 0; for (let i = 0; i < 3000; i++) { const f = new Function("x", `let t = x; for (let k = 0; k < ${i % 50 + 1}; k++) t = (t * ${i + 1} + k) | 0; return t;`); made = (made * 31 + f(i)) | 0; }
console.log(made);
let hits = 0; for (let i = 0; i < 400; i++) { const re = new RegExp(`(a|b${i})+c{${i % 5 + 1},}|x${i}$`, "gi"); hits += ("abab" + i + "ccccc ax" + i).replace(re, "<$1>").length; }
console.log(hits);
// (module (func (export "fac") (param i64) (result i64) ...)) and a memory that grows.
const wasm = new Uint8Array([0,97,115,109,1,0,0,0,1,6,1,96,1,126,1,126,3,2,1,0,5,3,1,0,1,7,13,2,3,102,97,99,0,0,3,109,101,109,2,0,10,23,1,21,0,32,0,80,4,126,66,1,5,32,0,32,0,66,1,125,16,0,126,11,11]);
(async () => {
  const digests = [];
  for (let i = 0; i < 20; i++) { const { instance } = await WebAssembly.instantiate(wasm); let s = 0n; for (let k = 0n; k < 300n; k++) s = BigInt.asIntN(64, s * 3n + instance.exports.fac(k % 25n)); digests.push(s); instance.exports.mem.grow(1); try { instance.exports.fac(10000000n); } catch (e) { digests.push(e.constructor.name); } }
  console.log(crypto.createHash("md5").update(digests.join()).digest("hex"), digests[0], digests[1]);
  const { Worker } = require("worker_threads");
  const results = await Promise.all([1, 2, 3].map(n => new Promise((ok, no) => { const w = new Worker(`const { parentPort } = require("worker_threads"); ${hot}; let s = 0; for (let i = 0; i < 300; i++) { const f = new Function("x", "return x * " + i + " + ${n}"); s = (s * 31 + f(i) + hot(2000)) | 0; } parentPort.postMessage(s);`, { eval: true }); w.once("message", ok); w.once("error", no); })));
  console.log(results.join());
  function deep(n) { return n === 0 ? 0 : 1 + deep(n - 1); } let overflow = 0; for (let i = 0; i < 3; i++) try { deep(1e7); } catch (e) { overflow += e instanceof RangeError; } console.log("overflow", overflow, deep(5000));
  console.log(new Error("stack").stack.split("\n").length > 1, Array.from((function* () { for (let i = 0; i < 1e5; i++) yield i * 3; })()).reduce((a, b) => a + b));
})();
EOF
node codegen.js; echo "status $?"
node --always-turbofan --expose-gc -e 'let s = 0; for (let i = 0; i < 200; i++) { s += new Function("x", "return x + " + i)(i); if (i % 50 === 0) gc(); } console.log(s)'; echo "status $?"
node --max-lazy --stress-compaction -e 'function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2); } console.log(f(20))'; echo "status $?"
node --jitless -e 'function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2); } console.log(f(22))'; echo "status $?"
