# sandbox: whole
# needs: node
cat >"$HOME/child.js" <<'END'
process.on("message", m => { process.send(m + 1); process.disconnect(); });
END
node -e '
const cp = require("child_process"); const once = (e, n) => new Promise(r => e.once(n, (...a) => r(a)));
(async () => {
  console.log(cp.execSync("echo sync | tr a-z A-Z").toString(), cp.spawnSync("sh", ["-c", "exit 3"]).status, cp.spawnSync("/no/such").error.code);
  const cat = cp.spawn("cat"); cat.stdin.end("x".repeat(300000)); let n = 0; cat.stdout.on("data", d => n += d.length); console.log(await once(cat, "close"), n);
  const f = cp.fork(process.env.HOME + "/child.js"); f.send(41); console.log(await once(f, "message"), await once(f, "exit"));
  const k = cp.spawn("sleep", ["100"]); k.kill("SIGKILL"); console.log(await once(k, "exit"));
  console.log((await Promise.all([...Array(8).keys()].map(i => once(cp.spawn("sh", ["-c", "exit " + i]), "exit")))).map(a => a[0]).join());
  const t = await new Promise(r => cp.exec("exec sleep 100", { timeout: 100 }, e => r([e.killed, e.signal]))); console.log(t);
  const d = cp.spawn("sh", ["-c", "ps -o sid= -p $$"], { detached: true, stdio: ["ignore", "pipe", "ignore"] }); console.log(Number(String((await once(d.stdout, "data"))[0])) === d.pid);
  process.exit(6); })();'; echo "status $?"
