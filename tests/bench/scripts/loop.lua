-- A hot loop that is compiled as one trace. arg[1]: iterations.
local sum = 0
for i = 1, tonumber(arg[1]) do sum = (sum + i * 7 + i % 13) % 1000003 end
print(sum)
