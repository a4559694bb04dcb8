// Checks the status page in a browser: screenshots and findings of axe-core. See README.md in this directory.
//
//   node look.mjs http://127.0.0.1:9090 OUT_DIR NAME [STEP...]
//
// A step is `find=ID` (looks up an id), `wait=TEXT` (waits up to three minutes for the text), `all` (opens all details),
// `end` (scrolls to the end) or `signal=STOP:PID` (suspends the gateway; requires AXE=off, because the page cannot be
// reloaded).

import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, out, name, ...steps] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), "look.mjs"));
const puppeteer = require("puppeteer-core").default ?? require("puppeteer-core");
const axe = require.resolve("axe-core/axe.min.js");

const ALL_VIEWS = [
  { view: "desktop", width: 1280, height: 900, scheme: "light" },
  { view: "desktop-dark", width: 1280, height: 900, scheme: "dark" },
  { view: "phone", width: 360, height: 800, scheme: "light", phone: true },
  { view: "phone-dark", width: 360, height: 800, scheme: "dark", phone: true },
];

const VIEWS = ALL_VIEWS.filter(({ view }) => !process.env.VIEWS || process.env.VIEWS.split(",").includes(view));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless=new", "--no-sandbox", "--force-color-profile=srgb"],
});
let failures = 0;
for (const { view, width, height, scheme, phone = false } of VIEWS) {
  const page = await browser.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && console.log(view, message.type(), message.text()));
  page.on("pageerror", (error) => { failures += 1; console.log(view, "error", error.message); });
  if (process.env.ADMIN_SECRET) await page.authenticate({ username: "admin", password: process.env.ADMIN_SECRET });
  await page.setViewport({ width, height, deviceScaleFactor: phone ? 2 : 1, isMobile: phone, hasTouch: phone });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(url, { waitUntil: "load" });
  await page.waitForFunction(() => document.getElementById("as-of").textContent.startsWith("as of"), { timeout: 20000 });
  for (const step of steps) await runStep(page, step);
  await page.screenshot({ path: join(out, `${name}-${view}.png`) });
  await page.screenshot({ path: join(out, `${name}-${view}-full.png`), fullPage: true });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (process.env.AXE === "off") {
    await page.close();
    continue;
  }
  // The page's content security policy permits only its own scripts, so axe needs a bypass.
  await page.setBypassCSP(true);
  await page.reload({ waitUntil: "load" });
  await page.waitForFunction(() => document.getElementById("headline").textContent !== "");
  for (const step of steps) await runStep(page, step);
  await page.addScriptTag({ path: axe });
  const found = await page.evaluate(() => window.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  await writeFile(join(out, `${name}-${view}-axe.json`), JSON.stringify(found, null, 1));
  console.log(`${view}: overflow ${overflow} px, axe: ${found.passes.length} rules passed, ${found.violations.length} violated, ${found.incomplete.length} undecided`);
  for (const { id, impact, nodes } of found.violations) {
    failures += 1;
    console.log(`  ${impact} ${id}: ${nodes.map((node) => node.target.join(" ")).slice(0, 5).join(" | ")}`);
  }
  for (const { id, nodes } of found.incomplete) console.log(`  undecided ${id}: ${nodes.length}`);
  if (overflow > 0) failures += 1;
  await page.close();
}
await browser.close();
process.exit(failures > 0 ? 1 : 0);

async function runStep(page, step) {
  const [action, value] = step.split(/=(.*)/s);
  if (action === "find") {
    await page.type("#id", value);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#found:not([hidden]) .card");
  } else if (action === "wait") {
    await page.waitForFunction((text) => document.body.innerText.includes(text), { timeout: 180000 }, value);
  } else if (action === "all") {
    await page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
  } else if (action === "end") {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  } else if (action === "signal") {
    const [signal, pid] = value.split(":");
    process.kill(Number(pid), `SIG${signal}`);
  }
}
