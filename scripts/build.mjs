// Builds dist/: JavaScript and declarations by tsc, the kernels' WebAssembly by asc. Does nothing when dist/ is newer than every source.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const stamp = join(root, 'dist', '.built');
const quiet = process.argv.includes('--quiet');

function newest(path) {
  const status = statSync(path);
  if (!status.isDirectory()) return status.mtimeMs;
  return Math.max(status.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

const sources = ['src', 'types', 'scripts/build.mjs', 'tsconfig.json', 'tsconfig.build.json', 'package.json'];
if (existsSync(stamp) && statSync(stamp).mtimeMs > Math.max(...sources.map((name) => newest(join(root, name))))) {
  if (!quiet) console.log('dist/ is up to date');
  process.exit(0);
}

async function buildKernels() {
  const { default: asc } = await import('assemblyscript/asc');
  const written = new Map();
  const { error, stderr } = await asc.main(
    [
      'src/kernels.entry.wasm.ts',
      '--outFile',
      'kernels.wasm',
      '--importMemory',
      '--sharedMemory',
      '--initialMemory',
      '1',
      '--maximumMemory',
      '65536',
      '--enable',
      'threads,simd,bulk-memory',
      '--runtime',
      'stub',
      '-O3',
      '--noAssert',
    ],
    {
      // what has a twin for this target: access to memory, and what goes by vectors
      readFile: (name, base) => {
        const paths = [name.replace(/\.ts$/, '.wasm.ts'), name].map((file) => join(base, file));
        const path = paths.find((file) => existsSync(file));
        return path === undefined ? null : readFileSync(path, 'utf8');
      },
      writeFile: (name, contents) => void written.set(name, contents),
      listFiles: () => [],
    },
  );
  if (error) throw new Error(`asc: ${error.message}\n${stderr.toString()}`);
  writeFileSync(join(root, 'dist', 'kernels.wasm'), written.get('kernels.wasm'));
}

/**
 * Declarations for everybody: `u32` is nobody's type but ours, and `Symbol.asyncDispose` needs a library that not every
 * project has on.
 */
function rewriteDeclarations(directory) {
  const disposable = '/// <reference lib="esnext.disposable" />\n';
  for (const entry of readdirSync(directory, { recursive: true })) {
    if (!entry.endsWith('.d.ts')) continue;
    const path = join(directory, entry);
    const text = readFileSync(path, 'utf8');
    const plain = text.replace(/^(?!\s*[/*]).*: [ui]32\b.*$/gm, (line) => line.replace(/: [ui]32\b/g, ': number'));
    const rewritten = /ispos(e\]|able)/.test(plain) && !plain.startsWith(disposable) ? disposable + plain : plain;
    if (rewritten !== text) writeFileSync(path, rewritten);
  }
}

/** Removes what sources that are gone left behind: it would be packed. */
function removeStale(directory) {
  for (const entry of readdirSync(directory, { recursive: true })) {
    const source = /^(.*?)(\.d\.ts|\.js)$/.exec(entry)?.[1];
    const stale = source === undefined ? entry.endsWith('.map') : !existsSync(join(root, 'src', `${source}.ts`));
    if (stale) rmSync(join(directory, entry));
  }
}

process.chdir(root);
rmSync(stamp, { force: true });
mkdirSync('dist', { recursive: true });
const tsc = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
if (tsc.status !== 0) process.exit(1);
rewriteDeclarations('dist');
removeStale('dist');
await buildKernels();
for (const name of Object.values(JSON.parse(readFileSync('package.json', 'utf8')).bin)) if (existsSync(name)) chmodSync(name, 0o755);
writeFileSync(stamp, '');
if (!quiet) console.log('built dist/');
