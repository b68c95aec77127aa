-- Tables, closures, coroutines, strings, floating point, files, errors.
local function sieve(n)
  local composite, count = {}, 0
  for i = 2, n do
    if not composite[i] then
      count = count + 1
      for j = i * i, n, i do composite[j] = true end
    end
  end
  return count
end
print("primes", sieve(100000))
local co = coroutine.wrap(function() for i = 1, 5 do coroutine.yield(i * i) end end)
print("coroutine", co(), co(), co())
local words = {}
for w in ("the quick brown fox jumps over the lazy dog the end"):gmatch("%a+") do
  words[w] = (words[w] or 0) + 1
end
local keys = {}
for k in pairs(words) do keys[#keys + 1] = k end
table.sort(keys)
for _, k in ipairs(keys) do io.write(k, "=", words[k], " ") end
print()
print(string.format("%.10f %g %5d|%-5s|%q", math.pi, 1e300 * 10, 42, "ab", "a\nb"))
print(2^53, 7 // 2, -7 % 3, 0x7fffffffffffffff + 1, 1 / 0, math.sin(1))
local f = assert(io.open("lua.out", "w"))
for i = 1, 2000 do f:write(i, "\n") end
f:close()
local sum = 0
for line in io.lines("lua.out") do sum = sum + tonumber(line) end
print("sum", sum, os.rename("lua.out", "lua.kept"), os.remove("lua.none"))
print("time", os.time { year = 2020, month = 1, day = 2, hour = 3 }, os.date("!%Y-%m-%d", 86400))
print("error", pcall(function() local t = nil; return t.x end))
print("deep", pcall(function() local function d() return 1 + d() end return d() end))
local garbage = {}
for i = 1, 200000 do garbage[i % 1000] = { i, tostring(i) } end
collectgarbage()
print("garbage", #garbage, arg[1], arg[2], io.read("l"), os.getenv("NOTHING"))
return 5
