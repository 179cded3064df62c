# sandbox: whole
# needs: node
cat >"$HOME/m.mjs" <<'END'
import fs from "node:fs"; import net from "node:net"; import http from "node:http"; import zlib from "node:zlib"; import crypto from "node:crypto"; import { promisify } from "node:util";
const log = []; setTimeout(() => log.push("timeout"), 20); setImmediate(() => log.push("immediate")); process.nextTick(() => log.push("tick")); Promise.resolve().then(() => log.push("promise"));
await new Promise(r => setTimeout(r, 100)); console.log(log.join());
await fs.promises.writeFile("written", "x".repeat(100000)); console.log((await fs.promises.readFile("written")).length, (await fs.promises.readdir(".")).sort());
const server = http.createServer((q, s) => s.end("got " + q.url)).listen(0, "127.0.0.1"); await new Promise(r => server.once("listening", r));
console.log(await Promise.all([...Array(10).keys()].map(i => fetch(`http://127.0.0.1:${server.address().port}/${i}`).then(r => r.text())))); server.closeAllConnections(); server.close();
const echo = net.createServer(s => s.pipe(s)).listen("sock"); await new Promise(r => echo.once("listening", r));
const c = net.connect("sock"); c.write("echoed"); console.log(String(await new Promise(r => c.once("data", r)))); c.end(); echo.close();
console.log((await promisify(zlib.gzip)("y".repeat(1e6))).length > 0, (await promisify(crypto.pbkdf2)("p", "s", 20000, 32, "sha256")).toString("hex"));
let s = 0; for (let i = 0; i < 3e7; i++) s = (s + i * i) % 1000003; console.log("compiled", s);
const wat = new WebAssembly.Module(Buffer.from("0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b", "hex")); console.log("wasm", new WebAssembly.Instance(wat).exports.add(40, 2));
process.on("SIGUSR2", () => console.log("signal")); process.kill(process.pid, "SIGUSR2"); await new Promise(r => setTimeout(r, 100));
const a = []; for (let i = 0; i < 300; i++) a.push(Buffer.alloc(1 << 16, i)); console.log(a.length, JSON.stringify({ big: 12n.toString() })); process.exitCode = 5;
END
node "$HOME/m.mjs"; echo "status $?"; node -e 'throw new Error("x")' 2>/dev/null; echo "status $?"; node -e 'process.abort()' 2>/dev/null; echo "status $?"
