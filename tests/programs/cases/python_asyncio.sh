# sandbox: whole
# needs: /usr/bin/python3
/usr/bin/python3 - <<'END'
import asyncio, os, signal, sys
async def serve(reader, writer):
    while line := await reader.readline(): writer.write(line.upper()); await writer.drain()
    writer.close()
async def client(n, **where):
    r, w = await (asyncio.open_unix_connection(where["path"]) if "path" in where else asyncio.open_connection("127.0.0.1", where["port"]))
    got = []
    for i in range(20): w.write(f"c{n} {i}\n".encode()); got.append(await r.readline())
    w.close(); await w.wait_closed(); return got[-1]
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0); port = server.sockets[0].getsockname()[1]
    print(await asyncio.gather(*(client(n, port=port) for n in range(10)))); server.close()
    server = await asyncio.start_unix_server(serve, "sock"); print(await asyncio.gather(*(client(n, path="sock") for n in range(5)))); server.close()
    p = await asyncio.create_subprocess_shell("read x; echo got $x; exit 4", stdin=-1, stdout=-1); print(await p.communicate(b"line\n"), p.returncode)
    print([p.returncode for p in await asyncio.gather(*(run(i) for i in range(6)))])
    loop = asyncio.get_running_loop(); seen = asyncio.Event(); loop.add_signal_handler(signal.SIGUSR1, seen.set)
    os.kill(os.getpid(), signal.SIGUSR1); await asyncio.wait_for(seen.wait(), 5); print("signal")
    print(await loop.run_in_executor(None, sum, range(1000)), await asyncio.to_thread(os.cpu_count) is not None)
    try: await asyncio.wait_for(asyncio.sleep(10), 0.05)
    except asyncio.TimeoutError: print("timed out")
    order = []
    async def step(n): await asyncio.sleep(n / 20); order.append(n)
    await asyncio.gather(*(step(n) for n in (3, 1, 2))); print(order)
    r, w = os.pipe(); got = loop.create_future(); loop.add_reader(r, lambda: got.set_result(os.read(r, 9))); os.write(w, b"pipe"); print(await got)
async def run(i):
    p = await asyncio.create_subprocess_exec("sh", "-c", f"exit {i}"); await p.wait(); return p
asyncio.run(main())
END
status=$?; echo "status $status"; rm -f sock
exit $status
