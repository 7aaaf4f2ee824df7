// Judges pages on this machine as MDN's HTTP Observatory does: `{"port": 1, "paths": ["/a"]}` in, its tests out.
// It asks localhost alone. Its list of preloaded hosts, which it fetches when it is installed, is left empty.
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const source = path.join(here, "node_modules", "@mdn", "mdn-http-observatory", "src");
const readFileSync = fs.readFileSync;
fs.readFileSync = (file, ...rest) =>
  String(file).endsWith("hsts-preload.json") ? "{}" : readFileSync(file, ...rest);
const load = (file) => import(pathToFileURL(path.join(source, file)).href);
const { retrieve } = await load("retriever/retriever.js");
const { ALL_TESTS } = await load("constants.js");

const { port, paths } = JSON.parse(readFileSync(0, "utf8"));
const judged = await Promise.all(
  paths.map(async (at) => {
    const requests = await retrieve("localhost", { httpsPort: port, httpPort: 9, path: at });
    if (!requests.responses.auto) throw new Error(`${at}: no answer`);
    const tests = ALL_TESTS.map((test) => test(requests));
    return [at, Object.fromEntries(tests.map((one) => [one.constructor.name, { pass: one.pass, result: one.result }]))];
  }),
);
process.stdout.write(JSON.stringify(Object.fromEntries(judged)));
