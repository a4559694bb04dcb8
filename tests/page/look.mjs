// Looks at the status page with a real browser: screenshots and axe-core's findings. See README.md beside this file.
//
//   node look.mjs http://127.0.0.1:9090 OUT_DIR NAME [STEP...]
//
// A step is `find=ID` (looks an id up), `wait=TEXT` (until the page shows it, three minutes at most), `all` (opens what is
// folded), `end` (scrolls down) or `signal=STOP:PID` (so that a gateway does not answer; then with AXE=off, as it cannot
// be loaded again).

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
let bad = 0;
for (const { view, width, height, scheme, phone = false } of VIEWS) {
  const page = await browser.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && console.log(view, message.type(), message.text()));
  page.on("pageerror", (error) => { bad += 1; console.log(view, "error", error.message); });
  if (process.env.ADMIN_SECRET) await page.authenticate({ username: "admin", password: process.env.ADMIN_SECRET });
  await page.setViewport({ width, height, deviceScaleFactor: phone ? 2 : 1, isMobile: phone, hasTouch: phone });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(url, { waitUntil: "load" });
  await page.waitForFunction(() => document.getElementById("as-of").textContent.startsWith("as of"), { timeout: 20000 });
  for (const step of steps) await take(page, step);
  await page.screenshot({ path: join(out, `${name}-${view}.png`) });
  await page.screenshot({ path: join(out, `${name}-${view}-full.png`), fullPage: true });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (process.env.AXE === "off") {
    await page.close();
    continue;
  }
  // The page's own policy lets no script in but its own files, so axe comes by the browser's back door.
  await page.setBypassCSP(true);
  await page.reload({ waitUntil: "load" });
  await page.waitForFunction(() => document.getElementById("headline").textContent !== "");
  for (const step of steps) await take(page, step);
  await page.addScriptTag({ path: axe });
  const found = await page.evaluate(() => window.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  await writeFile(join(out, `${name}-${view}-axe.json`), JSON.stringify(found, null, 1));
  console.log(`${view}: overflow ${overflow} px, axe: ${found.passes.length} rules passed, ${found.violations.length} violated, ${found.incomplete.length} undecided`);
  for (const { id, impact, nodes } of found.violations) {
    bad += 1;
    console.log(`  ${impact} ${id}: ${nodes.map((node) => node.target.join(" ")).slice(0, 5).join(" | ")}`);
  }
  for (const { id, nodes } of found.incomplete) console.log(`  undecided ${id}: ${nodes.length}`);
  if (overflow > 0) bad += 1;
  await page.close();
}
await browser.close();
process.exit(bad > 0 ? 1 : 0);

async function take(page, step) {
  const [what, value] = step.split(/=(.*)/s);
  if (what === "find") {
    await page.type("#id", value);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#found:not([hidden]) .card");
  } else if (what === "wait") {
    await page.waitForFunction((text) => document.body.innerText.includes(text), { timeout: 180000 }, value);
  } else if (what === "all") {
    await page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
  } else if (what === "end") {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  } else if (what === "signal") {
    const [signal, pid] = value.split(":");
    process.kill(Number(pid), `SIG${signal}`);
  }
}
