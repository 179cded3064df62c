# YJIT reserves its code behind the library and opens and closes pages of it for writing; threads, fibers and Ractors run what it makes,
# and a C function is called through libffi.
# sandbox: prefixed
# needs: ruby
ruby --yjit -e 'exit RubyVM::YJIT.enabled?' 2>/dev/null || { echo 'skip: ruby without YJIT'; exit 77; }
cat >a.rb <<'EOF'
def fib(n) n < 2 ? n : fib(n - 1) + fib(n - 2) end
puts RubyVM::YJIT.enabled?, fib(24)
puts (1..100_000).map { |i| i.to_s * 2 }.sum(&:size)
puts 4.times.map { |i| Thread.new { fib(15 + i) } }.map(&:value).inspect
fiber = Fiber.new { 3.times { |i| Fiber.yield i }; :done }
puts 4.times.map { fiber.resume }.inspect
puts 4.times.map { |i| Ractor.new(i) { |x| (1..10_000).sum + x } }.map(&:take).inspect
def deep(n) deep(n + 1) end
begin deep(0); rescue SystemStackError; puts 'stack'; end
# Code that guessed wrong: what it was compiled for changes under it.
class Integer; alias plus +; end
def add(a, b) a + b end
1000.times { |i| add(i, i) }
class Integer; def +(other) plus(other).plus(1) end; end
puts add(1, 2)
class Integer; alias + plus; end
puts add(1, 2), add(1.5, 2), add('a', 'b')
40.times { |k| eval "def f#{k}(n) n.even? ? n * #{k} : n - 1 end"; puts 50.times.sum { |n| send("f#{k}", n) } }
puts `echo sub`
Process.wait(fork { exit!(fib(10) % 50) }); puts $?.exitstatus
trap('USR1') { puts 'usr1' }; Process.kill('USR1', $$); sleep 0.05
GC.start; GC.compact
begin require 'fiddle'; puts Fiddle::Function.new(Fiddle.dlopen(nil)['abs'], [Fiddle::TYPE_INT], Fiddle::TYPE_INT).call(-4); rescue LoadError; puts 'no fiddle'; end
exit 2
EOF
for flags in --yjit '--yjit --yjit-call-threshold=1' --disable=jit; do $RUN ruby -W0 $flags a.rb 2>&1; echo "status $?"; done
