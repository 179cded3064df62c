# sandbox: whole
# needs: /usr/bin/python3
cat >work.py <<'END'
import multiprocessing as mp, os, sys, time
from multiprocessing import shared_memory
def square(n): return n * n
def put(q, n): q.put(n)
def count(value, lock):
    for _ in range(500):
        with lock: value.value += 1
def die(how): os._exit(3) if how else os.kill(os.getpid(), 9)
def fill(name): m = shared_memory.SharedMemory(name); m.buf[:5] = b"hello"; m.close()
def talk(c): c.send(c.recv()[::-1]); c.close()
if __name__ == "__main__":
    for method in sys.argv[1:]:
        c = mp.get_context(method)
        with c.Pool(3) as pool:
            print(method, sum(pool.imap_unordered(square, range(200), 10)), pool.apply_async(square, (9,)).get(30))
        q = c.Queue(); ps = [c.Process(target=put, args=(q, i)) for i in range(4)]
        [p.start() for p in ps]; print(sorted(q.get(timeout=30) for _ in ps)); [p.join() for p in ps]
        value, lock = c.Value("i", 0, lock=False), c.Lock()
        ps = [c.Process(target=count, args=(value, lock)) for _ in range(3)]
        [p.start() for p in ps]; [p.join() for p in ps]; print(value.value, [p.exitcode for p in ps])
        ps = [c.Process(target=die, args=(i,)) for i in (0, 1)]; [p.start() for p in ps]; [p.join() for p in ps]
        print([p.exitcode for p in ps])
        m = shared_memory.SharedMemory(create=True, size=4096); p = c.Process(target=fill, args=(m.name,)); p.start(); p.join()
        print(bytes(m.buf[:5])); m.close(); m.unlink()
        a, b = c.Pipe(); p = c.Process(target=talk, args=(b,)); p.start(); a.send([1, 2, 3]); print(a.recv()); p.join()
        with c.Manager() as manager: d = manager.dict(); d["x"] = 1; print(dict(d))
        p = c.Process(target=time.sleep, args=(100,)); p.start(); p.terminate(); p.join(); print(p.exitcode)
END
/usr/bin/python3 work.py fork forkserver spawn; status=$?; echo "status $status"
exit $status
