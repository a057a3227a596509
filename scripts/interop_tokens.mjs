// Prints two tokens for each key of a directory, as a JSON object: one that is good, and one that soon expires.
// Usage: interop_tokens.mjs JOSE DIRECTORY SECONDS ALGORITHM…

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [jose, directory, seconds, ...algorithms] = process.argv.slice(2);
const entry = createRequire(import.meta.url).resolve(jose);
const { SignJWT, importPKCS8 } = await import(pathToFileURL(entry));
const tokens = {};
for (const algorithm of algorithms) {
	const isSecret = algorithm.startsWith("HS");
	const text = readFileSync(`${directory}/${algorithm}.${isSecret ? "key" : "pem"}`, "utf8");
	const key = isSecret ? new TextEncoder().encode(text.trimEnd()) : await importPKCS8(text, algorithm);
	const sign = (lifetime) => new SignJWT({ name: "Node" }).setProtectedHeader({ alg: algorithm }).setSubject("node")
		.setIssuedAt().setExpirationTime(Math.floor(Date.now() / 1000) + lifetime).sign(key);
	tokens[algorithm] = [await sign(60), await sign(Number(seconds))];
}
console.log(JSON.stringify(tokens));
