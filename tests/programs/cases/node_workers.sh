# sandbox: whole
# needs: node
node -e '
const { Worker, isMainThread } = require("worker_threads");
const code = `const { parentPort, workerData } = require("worker_threads"); const view = new Int32Array(workerData.shared);
  for (let i = 0; i < 20000; i++) Atomics.add(view, 0, 1); let s = 0; for (let i = 0; i < 3e6; i++) s = (s * 31 + i) | 0;
  parentPort.on("message", m => { parentPort.postMessage([workerData.n, m * m, s]); parentPort.close(); });`;
(async () => { const shared = new SharedArrayBuffer(8), view = new Int32Array(shared);
  const r = await Promise.all([...Array(4).keys()].map(n => new Promise((ok, no) => { const w = new Worker(code, { eval: true, workerData: { n, shared } }); w.postMessage(n + 5); w.once("message", ok); w.once("error", no); })));
  console.log(JSON.stringify(r), view[0]);
  const w = new Worker("const { workerData } = require(\"worker_threads\"); Atomics.store(workerData, 1, 7); Atomics.notify(workerData, 1); setInterval(() => {}, 1000)", { eval: true, workerData: view });
  console.log(Atomics.wait(view, 1, 0, 10000), view[1]); console.log("terminated", await w.terminate());
  const busy = new Worker("for (;;);", { eval: true }); await new Promise(r => busy.once("online", r)); console.log("busy ended", await busy.terminate());
  const bad = new Worker("throw new Error(\"thrown\")", { eval: true }); console.log(await new Promise(r => bad.once("error", e => r(e.message))));
})();'; echo "status $?"
