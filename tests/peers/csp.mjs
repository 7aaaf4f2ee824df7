// Runs csp_evaluator as npm installs it, in Node. `node csp.mjs own` prints the policies of its own published tests;
// `node csp.mjs` reads a JSON list of policies and prints, for each, the findings or what was thrown.
import { readFileSync, readdirSync } from "node:fs";
import Module, { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const dist = path.join(path.dirname(fileURLToPath(import.meta.url)), "node_modules", "csp_evaluator", "dist");
const parser = require(path.join(dist, "parser.js"));
const { CspEvaluator } = require(path.join(dist, "evaluator.js"));
const { Severity, Type } = require(path.join(dist, "finding.js"));
const { Version } = require(path.join(dist, "csp.js"));

function ownPolicies() {
  const seen = [];
  const { CspParser } = parser;
  parser.CspParser = class extends CspParser {
    constructor(policy) {
      super(policy);
      seen.push(policy);
    }
  };
  const anything = new Proxy(function () {}, { get: () => anything, apply: () => anything });
  Object.assign(globalThis, { describe: (_, body) => body(), it: (_, body) => body() });
  Object.assign(globalThis, { expect: anything, jasmine: anything });
  const load = Module._load;
  Module._load = (name, ...rest) => (name === "jasmine" ? {} : load(name, ...rest));
  for (const folder of [".", "checks", "lighthouse"]) {
    for (const file of readdirSync(path.join(dist, folder)).filter((name) => name.endsWith("_test.js"))) {
      require(path.join(dist, folder, file));
    }
  }
  return [...new Set(seen)];
}

function evaluated(policy) {
  try {
    const findings = new CspEvaluator(new parser.CspParser(policy).csp, Version.CSP3).evaluate();
    return {
      findings: findings.map((f) => [Type[f.type], Severity[f.severity], f.directive, f.value ?? "", f.description]),
    };
  } catch (error) {
    return { thrown: error.code ?? error.name };
  }
}

const answer = process.argv[2] === "own" ? ownPolicies() : JSON.parse(readFileSync(0, "utf8")).map(evaluated);
process.stdout.write(JSON.stringify(answer));
