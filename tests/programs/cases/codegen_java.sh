# Code of both compilers, thrown away and made again: inlined virtual calls whose class changes, null checks by faults, classes loaded
# and unloaded, stack walks through compiled frames, a small code cache.
# sandbox: prefixed
# needs: java javac
cat >C.java <<'END_OF_SOURCE'
import java.lang.invoke.*; import java.util.*; import java.util.function.*; import java.util.stream.*;
public class C {
  interface Shape { long area(long x); }
  static Shape shape(int k) { switch (k) { case 0: return x -> x + 1; case 1: return x -> x * 3; case 2: return new Shape() { public long area(long x) { return x ^ 77; } }; default: return x -> x - k; } }
  static long calls(int kinds) { Shape[] all = new Shape[16]; for (int i = 0; i < 16; i++) all[i] = shape(i % kinds); long s = 1; for (int i = 0; i < 2_000_000; i++) s = s * 31 + all[i & 15].area(s & 0xffff); return s; }
  static int length(String s) { return s.length(); }
  static int depth(int n) { return n == 0 ? new Throwable().getStackTrace().length : depth(n - 1); }
  static int walk(int n) { return n == 0 ? StackWalker.getInstance().walk(f -> (int) f.filter(x -> x.getMethodName().equals("walk")).count()) : walk(n - 1); }
  static int at(int[] a, int i) { return a[i]; }
  public static void main(String[] args) throws Throwable {
    for (int kinds = 1; kinds <= 6; kinds++) System.out.println("kinds " + kinds + ": " + calls(kinds));
    int nulls = 0; long lengths = 0; for (int i = 0; i < 300_000; i++) { try { lengths += length(i % 1000 == 999 ? null : "abc"); } catch (NullPointerException e) { nulls++; } } System.out.println(nulls + " " + lengths);
    int bounds = 0; int[] a = new int[10]; for (int i = 0; i < 300_000; i++) { try { a[i % 10] += at(a, i % 100 == 99 ? 10 : i % 10); } catch (ArrayIndexOutOfBoundsException e) { bounds++; } } System.out.println(bounds + " " + Arrays.toString(a));
    int divisions = 0; for (int i = 0; i < 100_000; i++) { try { divisions += 100 / (i % 500); } catch (ArithmeticException e) { divisions -= 1; } } System.out.println(divisions);
    int frames = 0; for (int i = 0; i < 20_000; i++) frames += depth(i % 40) - depth(0); System.out.println("frames " + frames + " " + IntStream.range(0, 2000).map(i -> walk(i % 30)).sum());
    MethodHandle handle = MethodHandles.lookup().findStatic(C.class, "length", MethodType.methodType(int.class, String.class)); long h = 0; for (int i = 0; i < 500_000; i++) h += (int) handle.invokeExact("four"); System.out.println(h);
    long fused = 0; for (int i = 0; i < 300; i++) { final int k = i; Supplier<Long> f = () -> LongStream.range(0, 100).map(x -> x * k).filter(x -> x % 3 != 1).sum(); fused = fused * 31 + f.get(); } System.out.println(fused);
    double d = 0; float f = 0; for (int i = 1; i < 3_000_000; i++) { d += Math.sin(i) / i; f += 1.0f / i; } System.out.println(d + " " + f);
    int[] x = new int[100_000], y = new int[100_000]; for (int r = 0; r < 200; r++) for (int i = 0; i < x.length; i++) { x[i] = x[i] * 3 + y[i] + r; y[i] ^= x[i] >>> 3; } System.out.println(Arrays.hashCode(x) + " " + Arrays.hashCode(y));
    StringBuilder b = new StringBuilder(); for (int i = 0; i < 300_000; i++) { b.append(i % 7).append((char) ('a' + i % 26)); if (b.length() > 1000) b.setLength(10); } System.out.println(b.toString().hashCode());
    // Classes that come and go with their code.
    byte[] bytes = C.class.getResourceAsStream("C$Loaded.class").readAllBytes(); long loaded = 0;
    for (int i = 0; i < 100; i++) { Class<?> c = new ClassLoader(null) { Class<?> define() { return defineClass("C$Loaded", bytes, 0, bytes.length); } }.define(); loaded += ((IntUnaryOperator) c.getDeclaredConstructor().newInstance()).applyAsInt(i); if (i % 30 == 0) System.gc(); } System.out.println(loaded);
    Thread[] threads = new Thread[4]; long[] sums = new long[4]; for (int t = 0; t < 4; t++) { final int n = t; threads[t] = new Thread(() -> sums[n] = calls(n + 2)); threads[t].start(); } for (Thread t : threads) t.join(); System.out.println(Arrays.toString(sums));
  }
  public static class Loaded implements IntUnaryOperator { public int applyAsInt(int n) { int s = 0; for (int i = 0; i < 3000; i++) s = s * 31 + (i ^ n); return s; } }
}
END_OF_SOURCE
javac C.java 2>&1 | grep -v '^Note' ; rm C.java
for flags in '-XX:+UseG1GC -XX:TieredStopAtLevel=1' '-XX:+UseSerialGC -XX:-TieredCompilation' '-XX:+UseSerialGC -XX:ReservedCodeCacheSize=5m -XX:-SegmentedCodeCache'; do
  $RUN /usr/bin/java $flags -Xshare:auto -XX:-UsePerfData -Xmx256m -cp . C 2>&1 | grep -v 'OpenJDK 64-Bit Server VM warning'; echo "$flags: ${PIPESTATUS[0]}"
done
