// Writes canonical_cases.json: what JavaScript itself makes of each text. Run: node canonical_cases.mjs
import { writeFileSync } from "node:fs";

const numbers = ["0", "-0", "0.0", "-0.0", "1", "-1", "1.0", "1.50", "100e-2", "1e2", "1E2", "1e+2", "1e21", "1e20",
  "123456789012345678901234567890", "999999999999999999999", "1000000000000000000000", "9007199254740993", "9007199254740991",
  "0.1", "0.10000000000000001", "1e-6", "1e-7", "0.000001", "0.0000001", "1.5e-7", "123.456e-10", "5e-324", "2e-324", "4.9e-324",
  "1.7976931348623157e308", "1e308", "1e309", "-1e309", "1e400", "2.2250738585072014e-308", "4.35", "0.1e1", "12e-1",
  "1234567.125", "-1234567.125", "1e0", "0e5", "-0e5", "100", "1.23e+25", "01", "-", "+1", ".5", "1.", "1e", "0x10", "NaN", "Infinity", "-Infinity", "1_0", "--1"];
const strings = ['""', '"a"', '"\\u0061"', '"\\/"', '"/"', '"é"', '"\\u00e9"', '"\\u00E9"', '"\\""', '"\\\\"', '"\\b\\f\\n\\r\\t"', '"\\u0000"', '"\\u001f"', '"\\u001F"',
  '"\\u007f"', '"\u007f"', '"\\u2028\\u2029"', '"\u2028"', '"\\ud83d\\ude00"', '"😀"', '"\\ud83d"', '"\\ude00"', '"\\uDE00\\uD83D"', '"\\ud83dx\\ude00"', '"\\uD83D\\uD83D\\uDE00"', '"<a&b>\'"',
  '"\t"', '"\n"', '"\\x41"', '"\\u12"', '"\\u12g4"', '"\\u+123"', '"\\u 123"', '"unclosed', "'a'", '"\\"', '"\\u0131\\ufeff"', '"\u00a0"', '"\\uffff"', '"\ufffd"'];
const objects = ["{}", "{ }", '{"a":1}', ' {\r\n\t"a" : 1 } ', '{"b":1,"a":2}', '{"a":1,"a":2}', '{"a":1,"b":2,"a":3}', '{"2":1,"1":2}', '{"b":0,"10":1,"9":2,"a":3}',
  '{"01":1,"1":2,"-1":3,"1.0":4,"0":5}', '{"4294967294":1,"4294967295":2,"1":3}', '{"a":1,"4294967296":2,"4294967294":3,"4294967295":4}', '{"99999999999":1,"5":2}',
  '{"__proto__":1}', '{"a":1,"__proto__":{"b":2},"c":3}', '{"constructor":1,"toString":2}', '{"":1}', '{"\\u0061":1,"a":2}', '{"1":1,"\\u0031":2}', '{"٣":1,"3":2,"1":3}',
  '{"a":1,}', "{a:1}", '{"a"}', '{"a":}', '{,}', '{"a":1 "b":2}', '{"a":1}{}', '{"é":1,"\\ud800":2}', '{"a":{"text":"x"},"text":"y"}'];
const others = ["null", "true", "false", "True", "nul", "[]", "[ ]", "[1,2]", "[1,,2]", "[1,]", "[,]", "[[[]]]", '[1,"a",null,true,{"b":[]}]', "", " ", "\t1\n", "\u00a01", "\u000b1", "\u000c1", "\ufeff1",
  "1 2", "[1]]", "/* */1", "// c\n1", "undefined", '{"amount":1e2}', '{"amount":100.0}', '{"amount":"100"}', "[" .repeat(64) + "]".repeat(64), "[".repeat(60) + '{"a":1}' + "]".repeat(60)];

// A fixed linear congruential generator: the same doubles in every run.
let state = 12345n;
const next = () => (state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn);
const view = new DataView(new ArrayBuffer(8));
const doubles = [];
while (doubles.length < 300) {
  view.setBigUint64(0, next() ^ (next() >> 32n));
  const double = view.getFloat64(0);
  if (Number.isFinite(double)) doubles.push(double.toPrecision(17), double.toExponential());
}
for (let e = -9; e < 24; e++) doubles.push(`${1234567 * 10 ** e}`, (1.5 * 10 ** e).toFixed(Math.max(0, 8 - e)));

const expected = (text) => { try { return JSON.stringify(JSON.parse(text)); } catch { return null; } };
const cases = [...numbers, ...strings, ...objects, ...others, ...doubles].map((text) => [text, expected(text)]);
const ascii = (value) => JSON.stringify(value).replace(/[^\x00-\x7e]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
writeFileSync(new URL("canonical_cases.json", import.meta.url), "[\n" + cases.map(ascii).join(",\n") + "\n]\n");
console.log(`${cases.length} cases, node ${process.version}`);
