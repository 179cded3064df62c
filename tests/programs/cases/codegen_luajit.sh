# Traces compiled, patched together and thrown away; a C function called by, and a C function pointer made of, generated code.
# sandbox: whole
# needs: luajit
cat >loop.lua <<'EOF'
local bit = require("bit")
local function hot(n) local s = 0; for i = 1, n do s = bit.bxor(s * 3 % 1000003 + i, bit.lshift(i, i % 7)); if i % 1000 == 0 then s = s - 1 end end; return s end
print(hot(3e6))
-- Many traces with side exits, more than the table of traces holds, so that it is flushed again and again.
local total = 0
for n = 1, 1500 do
  local f = assert(loadstring("local t = 0; for i = 1, 200 do if i % " .. (n % 13 + 2) .. " == 0 then t = t + i * " .. n .. " else t = t - 1 end end; return t"))
  total = (total * 31 + f()) % 1000000007
end
print(total)
local function fib(n) if n < 2 then return n end; return fib(n - 1) + fib(n - 2) end
print(fib(27))
local t = {}
for i = 1, 200000 do t[i % 1000 + 1] = tostring(i):reverse():rep(2) end
print(#table.concat(t), t[77])
print(pcall(function() local x; for i = 1, 1e5 do if i == 99999 then x = x.y end end end))
local co = coroutine.wrap(function() for i = 1, 1e5 do coroutine.yield(i * 2) end end)
local s = 0; for i = 1, 1e5 do s = s + co() end; print(s)
for i = 1, 20 do jit.flush(); s = s + hot(20000) end; print(s)
jit.off(); print(hot(1e5)); jit.on()
EOF
luajit loop.lua; echo "status $?"
cat >ffi.lua <<'EOF'
local ffi = require("ffi")
ffi.cdef[[
typedef int (*comparison)(const void *, const void *);
void qsort(void *, size_t, size_t, comparison);
int getppid(void); size_t strlen(const char *); double sqrt(double);
]]
local values = ffi.new("int[1000]"); for i = 0, 999 do values[i] = (i * 7919) % 1009 end
local calls = 0
local compare = ffi.cast("comparison", function(a, b) calls = calls + 1; local x, y = ffi.cast("const int*", a)[0], ffi.cast("const int*", b)[0]; return x < y and -1 or x > y and 1 or 0 end)
for i = 1, 5 do ffi.C.qsort(values, 1000, 4, compare); values[500] = i end
compare:free(); print(values[0], values[499], values[999], calls > 8000)
local sum = 0; for i = 1, 1e6 do sum = sum + ffi.C.sqrt(i) end; print(string.format("%.6f", sum))
for i = 1, 200 do local c = ffi.cast("comparison", function() return i end); assert(c(nil, nil) == i); c:free() end; print("callbacks")
print(pcall(function() local c; for i = 1, 1e5 do c = ffi.C.strlen("dune") end; error("thrown " .. tonumber(c)) end))
EOF
luajit ffi.lua; echo "status $?"
for level in 0 1 2 3; do luajit -O$level loop.lua | md5sum; done
