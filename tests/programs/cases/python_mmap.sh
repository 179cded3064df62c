# sandbox: whole
# needs: /usr/bin/python3
/usr/bin/python3 - <<'END'
import ctypes, mmap, os
page = mmap.PAGESIZE
with open("file", "wb+") as f:
    f.truncate(4 * page); m = mmap.mmap(f.fileno(), 0); m[0:5] = b"hello"; m[3 * page:3 * page + 3] = b"end"; m.flush()
    f.seek(0); print(f.read(5)); f.seek(page); f.write(b"through write"); f.flush(); print(m[page:page + 13], m.find(b"end"))
    if os.fork() == 0: m[100:105] = b"child"; os._exit(0)
    os.wait(); print(m[100:105])
    p = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE); p[0:5] = b"other"; print(p[0:5], m[0:5])
    r = mmap.mmap(f.fileno(), page, prot=mmap.PROT_READ, offset=page); print(r[:7])
    try: r[0] = 1
    except TypeError as e: print(e)
    m.resize(8 * page); print(len(m), os.fstat(f.fileno()).st_size); m[-1] = 7; m.move(10, 0, 5); print(m[10:15])
    if (pid := os.fork()) == 0:
        q = mmap.mmap(f.fileno(), 8 * page); os.ftruncate(f.fileno(), page); print(q[5 * page], flush=True); os._exit(0)
    print("past the end", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
a = mmap.mmap(-1, 64 << 20)
for i in range(0, len(a), page): a[i] = i // page % 251
print(sum(a[i] for i in range(0, len(a), page)))
if os.fork() == 0: a[0] = 99; os._exit(0)
os.wait(); print("anonymous is shared", a[0]); a.madvise(mmap.MADV_DONTNEED, 0, page); a.close()
x = mmap.mmap(-1, page, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
x.write(bytes.fromhex("8d047ec3"))  # lea eax, [rsi + rdi*2]; ret
f = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(x))); print("code", f(20, 2))
fd = os.memfd_create("name"); os.ftruncate(fd, page); s = mmap.mmap(fd, page); s[:3] = b"mem"; print(os.pread(fd, 3, 0))
try: mmap.mmap(-1, 1 << 60)
except (OSError, OverflowError) as e: print(e)
END
status=$?; echo "status $status"
exit $status
