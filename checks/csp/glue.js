// Lets the CommonJS modules of csp_evaluator run where there is neither `require` nor `URL`. `SOURCES` maps a module's
// path to its text; `evaluate(policy)` returns JSON.
"use strict";

const loaded = new Map();

function pathOf(from, request) {
  const parts = from.split("/").slice(0, -1);
  for (const part of request.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/") + ".js";
}

function load(path) {
  if (!loaded.has(path)) {
    if (!Object.hasOwn(SOURCES, path)) throw new Error("no module " + path);
    const module = { exports: {} };
    loaded.set(path, module);
    const body = new Function("require", "module", "exports", SOURCES[path]);
    body.call(module.exports, (request) => load(pathOf(path, request)), module, module.exports);
  }
  return loaded.get(path).exports;
}

// ---- as much of URL as is asked for: the host and the path of https addresses (URL Standard, special schemes) -----

const FORBIDDEN_DOMAIN = /[\u0000-\u0020#%/:<>?@[\\\]^|\u007f]/;

class BadUrl extends TypeError {}

function numberOf(text) {
  const [digits, base] = /^0x/i.test(text)
    ? [text.slice(2), 16]
    : text.length > 1 && text.startsWith("0")
      ? [text.slice(1), 8]
      : [text, 10];
  const allowed = { 8: /^[0-7]*$/, 10: /^[0-9]+$/, 16: /^[0-9a-f]*$/i }[base];
  if (!allowed.test(digits)) return null;
  return digits === "" ? 0 : parseInt(digits, base);
}

function ipv4(host) {
  const parts = host.split(".");
  if (parts.length > 1 && parts.at(-1) === "") parts.pop();
  const last = parts.at(-1);
  if (!/^[0-9]+$/.test(last) && !/^0x[0-9a-f]*$/i.test(last)) return null;
  const numbers = parts.map((part) => (part === "" ? null : numberOf(part)));
  const rest = 256 ** (5 - numbers.length);
  if (parts.length > 4 || numbers.some((n, i) => n === null || n >= (i === numbers.length - 1 ? rest : 256))) {
    throw new BadUrl("not an IPv4 address");
  }
  let address = numbers.at(-1);
  numbers.slice(0, -1).forEach((n, i) => (address += n * 256 ** (3 - i)));
  return [3, 2, 1, 0].map((i) => Math.floor(address / 256 ** i) % 256).join(".");
}

function pieces(text) {
  if (text === "") return [];
  return text.split(":").flatMap((piece, i, all) => {
    if (i === all.length - 1 && piece.includes(".")) {
      const bytes = piece.split(".");
      const right = (byte) => /^(0|[1-9][0-9]{0,2})$/.test(byte) && Number(byte) < 256;
      if (bytes.length !== 4 || !bytes.every(right)) throw new BadUrl("not an IPv6 address");
      return [bytes[0] * 256 + +bytes[1], bytes[2] * 256 + +bytes[3]];
    }
    if (!/^[0-9a-f]{1,4}$/i.test(piece)) throw new BadUrl("not an IPv6 address");
    return [parseInt(piece, 16)];
  });
}

function ipv6(text) {
  const halves = text.split("::");
  if (halves.length > 2 || (halves.length === 2 && halves[0].includes("."))) throw new BadUrl("not an IPv6 address");
  const [head, tail] = [pieces(halves[0]), pieces(halves[1] ?? "")];
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) throw new BadUrl("not an IPv6 address");
  const all = [...head, ...Array(missing).fill(0), ...tail];
  let [best, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && all[end] === 0) end++;
    if (end - i > length) [best, length] = [i, end - i];
  }
  const hex = (list) => list.map((n) => n.toString(16)).join(":");
  return "[" + (best < 0 ? hex(all) : hex(all.slice(0, best)) + "::" + hex(all.slice(best + length))) + "]";
}

function hostOf(text) {
  if (text.startsWith("[")) {
    if (!text.endsWith("]")) throw new BadUrl("an IPv6 address without its end");
    return ipv6(text.slice(1, -1));
  }
  const host = text.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16))).toLowerCase();
  // Names beyond ASCII never get here in a policy: browsers drop such a directive, and so does the caller.
  if (host === "" || FORBIDDEN_DOMAIN.test(host) || /[^\u0000-\u007f]/.test(host)) throw new BadUrl("not a host");
  return ipv4(host) ?? host;
}

function pathnameOf(text) {
  const segments = text.replace(/[?#].*$/s, "").replace(/\\/g, "/").split("/").slice(1);
  const out = [];
  segments.forEach((segment, i) => {
    const plain = segment.replace(/%2e/gi, ".");
    const last = i === segments.length - 1;
    if (plain === "..") {
      out.pop();
      if (last) out.push("");
    } else if (plain === ".") {
      if (last) out.push("");
    } else {
      out.push(segment.replace(/[\u0000-\u0020"<>^`{}\u007f]/g, (c) => encodeURIComponent(c)));
    }
  });
  return "/" + out.join("/");
}

const parsed = new Map();

globalThis.URL = class URL {
  constructor(address) {
    const text = String(address);
    if (!parsed.has(text)) parsed.set(text, URL.#parse(text));
    Object.assign(this, parsed.get(text));
  }

  static #parse(text) {
    const match = /^https:[/\\]*([^/\\?#]*)(.*)$/is.exec(text.trim());
    if (!match) throw new BadUrl("not an https address: " + text);
    const authority = match[1].slice(match[1].lastIndexOf("@") + 1);
    const [, host, port] = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s.exec(authority) ?? [];
    const badPort = port && (!/^[0-9]+$/.test(port) || Number(port) > 65535);
    if (host === undefined || badPort) throw new BadUrl("not a port");
    return { hostname: hostOf(host), pathname: pathnameOf(match[2]) };
  }
};

// ---- the evaluation ------------------------------------------------------------------------------------------------

const { CspEvaluator } = load("evaluator.js");
const { CspParser } = load("parser.js");
const { Severity, Type } = load("finding.js");
const { Version } = load("csp.js");
const { getHostname } = load("utils.js");

function findings(csp) {
  return new CspEvaluator(csp, Version.CSP3).evaluate().map((finding) => ({
    type: Type[finding.type],
    severity: Severity[finding.severity],
    directive: finding.directive,
    value: finding.value ?? "",
    description: finding.description,
  }));
}

// csp_evaluator throws on a source that is no address. Browsers ignore such a source: it is taken out and told.
function withoutUnreadable(csp) {
  const unreadable = [];
  for (const [directive, values] of Object.entries(csp.directives)) {
    csp.directives[directive] = values.filter((value) => {
      try {
        getHostname(value);
        const host = value.replace(/^(\w[+\w.-]*:)?\/\//i, "").replace(":*", "");
        new URL("https://" + host.replace("*", "wildcard_placeholder"));
        return true;
      } catch (error) {
        if (!(error instanceof BadUrl)) throw error;
        unreadable.push([directive, value]);
        return false;
      }
    });
  }
  return unreadable;
}

globalThis.evaluate = (policy) => {
  const { csp } = new CspParser(policy);
  let unreadable = [];
  let found;
  try {
    found = findings(csp);
  } catch (error) {
    if (!(error instanceof BadUrl)) throw error;
    unreadable = withoutUnreadable(csp);
    found = findings(csp);
  }
  return JSON.stringify({ findings: found, unreadable });
};
