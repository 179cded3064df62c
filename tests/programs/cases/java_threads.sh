# javac runs outside; java, with its compiler threads and collectors, inside.
# sandbox: prefixed
# needs: java javac
cat >T.java <<'END'
import java.util.*; import java.util.concurrent.*; import java.util.concurrent.atomic.*; import java.util.stream.*; import java.nio.file.*; import java.net.*; import java.io.*;
public class T {
  static int depth(int n) { return 1 + depth(n + 1); }
  public static void main(String[] args) throws Exception {
    var pool = Executors.newFixedThreadPool(8); var sum = new AtomicLong(); var all = new ArrayList<Future<Long>>();
    for (int i = 0; i < 64; i++) { final int n = i; all.add(pool.submit(() -> { long s = 0; for (int k = 0; k < 200000; k++) s += (long) k * n % 7; sum.addAndGet(s); return s; })); }
    long t = 0; for (var f : all) t += f.get(); pool.shutdown(); System.out.println(t == sum.get() ? "sum " + t : "different");
    System.out.println(IntStream.rangeClosed(1, 200000).parallel().filter(x -> x % 3 == 0).asLongStream().sum());
    try { String s = args.length > 9 ? "x" : null; s.length(); } catch (NullPointerException e) { System.out.println("NullPointerException"); }
    for (int i = 0; i < 20000; i++) { try { Object o = i > 19990 ? null : "x"; o.hashCode(); } catch (NullPointerException e) { if (i == 19999) System.out.println("compiled null check"); } }
    try { depth(0); } catch (StackOverflowError e) { System.out.println("StackOverflowError"); }
    try { System.out.println(1 / (args.length)); } catch (ArithmeticException e) { System.out.println(e.getMessage()); }
    var keep = new ArrayDeque<byte[]>(); for (int i = 0; i < 4000; i++) { keep.add(new byte[50000]); if (keep.size() > 100) keep.poll(); } System.gc(); System.out.println("collected " + keep.size());
    Object lock = new Object(); boolean[] ready = {false}; var w = new Thread(() -> { synchronized (lock) { while (!ready[0]) try { lock.wait(); } catch (InterruptedException e) {} System.out.println("notified"); } }); w.start(); synchronized (lock) { ready[0] = true; lock.notifyAll(); } w.join();
    var sleeper = new Thread(() -> { try { Thread.sleep(100000); } catch (InterruptedException e) { System.out.println("interrupted"); } }); sleeper.start(); sleeper.interrupt(); sleeper.join();
    try (var server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress())) { var st = new Thread(() -> { try (var s = server.accept()) { s.getInputStream().transferTo(s.getOutputStream()); } catch (IOException e) {} }); st.start();
      try (var c = new Socket(server.getInetAddress(), server.getLocalPort())) { c.getOutputStream().write("echo".getBytes()); c.shutdownOutput(); System.out.println(new String(c.getInputStream().readAllBytes())); } }
    var p = new ProcessBuilder("sh", "-c", "echo child; exit 3").redirectErrorStream(true).start(); System.out.print(new String(p.getInputStream().readAllBytes())); System.out.println(p.waitFor());
    Files.writeString(Path.of("written"), "by java\n"); Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook"))); System.exit(4);
  }
}
END
javac T.java && rm T.java || exit
for flags in -XX:+UseSerialGC '-XX:+UseG1GC -Xmx128m' -Xint; do $RUN /usr/bin/java $flags -XX:-UsePerfData -cp . T; echo "$flags: $?"; done
