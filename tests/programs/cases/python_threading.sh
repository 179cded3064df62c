# sandbox: whole
# needs: /usr/bin/python3
/usr/bin/python3 - <<'END'
import concurrent.futures, queue, threading, time, zlib, hashlib
lock, total = threading.Lock(), 0
def add():
    global total
    for _ in range(2000):
        with lock: total += 1
threads = [threading.Thread(target=add) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]; print("total", total)
q, out = queue.Queue(5), []
def consume():
    while (item := q.get()) is not None: out.append(item * item)
c = [threading.Thread(target=consume) for _ in range(3)]; [t.start() for t in c]
[q.put(i) for i in range(300)]; [q.put(None) for _ in c]; [t.join() for t in c]; print(sum(out), len(out))
barrier = threading.Barrier(5); passed = []
def meet():
    for r in range(20): barrier.wait(); passed.append(r)
b = [threading.Thread(target=meet) for _ in range(5)]; [t.start() for t in b]; [t.join() for t in b]
print("rounds in order", passed == sorted(passed))
condition, turn, log = threading.Condition(), 0, []
def player(me):
    global turn
    for _ in range(50):
        with condition:
            condition.wait_for(lambda: turn == me); log.append(me); turn = 1 - me; condition.notify_all()
p = [threading.Thread(target=player, args=(i,)) for i in (0, 1)]; [t.start() for t in p]; [t.join() for t in p]
print("alternated", log == [0, 1] * 50)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(hashlib.sha256(b"".join(pool.map(lambda n: zlib.compress(bytes([n]) * 100000), range(40)))).hexdigest())
print("timed out", not threading.Event().wait(0.05), threading.Lock().acquire(timeout=0.01))
fired = threading.Event(); threading.Timer(0.05, fired.set).start(); print("timer", fired.wait(5))
local = threading.local(); local.x = 1
def other(): print("local", hasattr(local, "x"), threading.get_native_id() != threading.main_thread().native_id)
t = threading.Thread(target=other); t.start(); t.join()
d = threading.Thread(target=time.sleep, args=(1000,), daemon=True); d.start(); print("alive", threading.active_count())
END
status=$?; echo "status $status"
exit $status
