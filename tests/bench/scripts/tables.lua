-- Strings and tables: interning, hashing, sorting, substitution. arg[1]: thousands of elements.
local words, count = {}, {}
for i = 1, tonumber(arg[1]) * 1000 do
  local word = "w" .. (i * 7919) % 10007
  words[#words + 1] = word
  count[word] = (count[word] or 0) + 1
end
table.sort(words)
local names = {}
for name in pairs(count) do names[#names + 1] = name:gsub("%d", "%0.") .. count[name] end
table.sort(names)
local joined, sum = table.concat(names, ","), 0
for i = 1, #joined do sum = (sum * 31 + joined:byte(i)) % 1000003 end
print(#words, #names, #joined, sum)
