// Other tools as subjects of `loadtest render`: orders come as lines of JSON on
// stdin, {id, url, file}, receipts go to stdout, {id, bytes, error}; id 0 says
// that the subject is ready. Arguments: what, and its settings as JSON.
import {createInterface} from 'node:readline';
import {createServer} from 'node:net';
import {mkdirSync, mkdtempSync, symlinkSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {tmpdir} from 'node:os';

const [what, text] = process.argv.slice(2);
const settings = JSON.parse(text); // {width, height, pages, bin, shell, fast, sandbox, routes}
const viewport = {width: settings.width, height: settings.height};
const answer = receipt => process.stdout.write(JSON.stringify(receipt) + '\n');

function keep(picture, file) {
  const png = Buffer.from(picture);
  if (png.readUInt32BE(0) !== 0x89504e47) throw new Error('not a picture');
  const width = png.readUInt32BE(16), height = png.readUInt32BE(20);
  if (width !== settings.width || height !== settings.height) throw new Error(`the picture is ${width} by ${height}`);
  if (file) writeFileSync(file, png);
  return png.length;
}

// serve answers orders until stdin ends.
async function serve(render, close) {
  const open = new Set();
  answer({id: 0});
  for await (const line of createInterface({input: process.stdin})) {
    const order = JSON.parse(line);
    const done = render(order.url)
      .then(picture => answer({id: order.id, bytes: keep(picture, order.file)}))
      .catch(error => answer({id: order.id, error: String(error)}))
      .finally(() => open.delete(done));
    open.add(done);
  }
  await Promise.all(open);
  await close();
  process.exit(0);
}

async function cluster() {
  const {Cluster} = await import('puppeteer-cluster');
  const puppeteer = (await import('puppeteer-core')).default;
  const c = await Cluster.launch({
    puppeteer, concurrency: Cluster.CONCURRENCY_CONTEXT, maxConcurrency: settings.pages, timeout: 55000,
    puppeteerOptions: {executablePath: settings.bin, headless: settings.shell ? 'shell' : true, defaultViewport: viewport},
  });
  await serve(url => c.execute(url, async ({page, data}) => {
    await page.goto(data);
    return page.screenshot(settings.fast ? {optimizeForSpeed: true} : {});
  }), () => c.close());
}

async function playwright() {
  const {chromium} = await import('playwright-core');
  const browser = await chromium.launch({executablePath: settings.bin, chromiumSandbox: settings.sandbox});
  await serve(async url => {
    const context = await browser.newContext({viewport});
    try {
      const page = await context.newPage();
      await page.goto(url);
      if (!settings.fast) return await page.screenshot();
      // Without a frame Chromium has nothing to capture; its own call waits for one, too.
      await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
      const cdp = await context.newCDPSession(page);
      const {data} = await cdp.send('Page.captureScreenshot', {format: 'png', optimizeForSpeed: true});
      return Buffer.from(data, 'base64');
    } finally {
      await context.close();
    }
  }, () => browser.close());
}

// browserless serves HTTP by itself; the port is told with id 0.
async function browserless() {
  const browsers = mkdtempSync(join(tmpdir(), 'browsers-'));
  process.env.PLAYWRIGHT_BROWSERS_PATH = browsers;
  const playwright = (await import('playwright-core')).default;
  const at = playwright.chromium.executablePath();
  mkdirSync(dirname(at), {recursive: true});
  symlinkSync(settings.bin, at);
  const port = await new Promise(done => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const {port} = probe.address();
      probe.close(() => done(port));
    });
  });
  Object.assign(process.env, {HOST: '127.0.0.1', PORT: String(port), ROUTES: settings.routes, CONCURRENT: '8', QUEUED: '64', DEBUG: '-*'});
  const {Browserless} = await import('@browserless.io/browserless');
  const server = new Browserless();
  await server.start();
  answer({id: 0, port});
  for await (const _ of process.stdin);
  await server.stop();
  process.exit(0);
}

await {cluster, playwright, browserless}[what]();
