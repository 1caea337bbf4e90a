/**
 * The machine's kernel: Debian's own package, fetched by apt and unpacked into a cache folder, never installed.
 *
 * QEMU boots the uncompressed ELF image twice as fast as the packed one. The modules that are kept are those of MODULES and what they
 * depend on; the folder's name carries a digest of that list, so that a longer list makes a new folder.
 * @module
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { MachineError } from './error.ts';

/** Modules that the machine can load; Debian's names with underscores. */
const MODULES = [
  'virtio_pci',
  'virtio_console',
  '9p',
  '9pnet_virtio',
  'tun',
  'vhost_net',
  'veth',
  'bridge',
  'macvlan',
  'macvtap',
  'virtio_net',
  'vfio_pci',
  'vfio_iommu_type1',
  'uio_pci_generic',
] as const;

const META_PACKAGE = 'linux-image-amd64';
/** Bytes of the largest thing that a program prints here: an unpacked kernel. */
const MAX_OUTPUT = 512 * 1024 * 1024;
const DOWNLOAD_LIMIT = 240_000;

/** What the machine boots from. */
export interface Kernel {
  /** Package that it is from: `linux-image-6.1.0-48-amd64`. */
  readonly name: string;
  /** Path of the uncompressed kernel. */
  readonly image: string;
  /** Path of a static busybox. */
  readonly busybox: string;
  /** Folder with NAME.ko, and NAME.deps: the modules to load for it, in order, itself last. */
  readonly modules: string;
}

const execute = promisify(execFile);

/** Where kernels are kept: DPDK_TS_VM_CACHE, or dpdk-ts-vm in the user's cache folder. */
export function cacheFolder(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? '';
  return process.env['DPDK_TS_VM_CACHE'] ?? join(cache === '' ? join(homedir(), '.cache') : cache, 'dpdk-ts-vm');
}

/** The newest kernel in the cache, or undefined. */
export async function cachedKernel(): Promise<Kernel | undefined> {
  const names = await readdir(cacheFolder()).catch(() => []);
  const suffix = `.${digest()}`;
  const newest = names
    .filter((name) => name.endsWith(suffix))
    .sort(new Intl.Collator('en', { numeric: true }).compare)
    .at(-1);
  if (newest === undefined) return undefined;
  const folder = join(cacheFolder(), newest);
  return {
    name: newest.slice(0, -suffix.length),
    image: join(folder, 'vmlinux'),
    busybox: join(folder, 'busybox'),
    modules: join(folder, 'modules'),
  };
}

/**
 * The kernel of the cache; fetches and unpacks it first where there is none.
 * @throws MachineError when apt does not have it, or what it has is not as expected
 */
export async function prepareKernel(): Promise<Kernel> {
  const cached = await cachedKernel();
  if (cached !== undefined) return cached;
  const cache = cacheFolder();
  await mkdir(cache, { recursive: true });
  const name = await newestPackage();
  const work = await mkdtemp(join(cache, 'partial-'));
  try {
    for (const wanted of [name, 'busybox-static'])
      await program('apt-get', ['download', '-q', wanted], { cwd: work, timeout: DOWNLOAD_LIMIT });
    for (const file of await readdir(work)) await program('dpkg-deb', ['-x', file, 'root'], { cwd: work });
    const folder = join(work, 'kernel');
    await mkdir(join(folder, 'modules'), { recursive: true });
    await rename(await busyboxIn(join(work, 'root')), join(folder, 'busybox'));
    await writeFile(join(folder, 'vmlinux'), await unpackedKernel(join(work, 'root', 'boot')));
    await collectModules(join(work, 'root', 'lib', 'modules'), join(folder, 'modules'));
    // another process may have been faster: then its folder stays
    await rename(folder, join(cache, `${name}.${digest()}`)).catch((error: unknown) => {
      if (!existsSync(join(cache, `${name}.${digest()}`))) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  const kernel = await cachedKernel();
  if (kernel === undefined) throw new MachineError(`${cache}: the kernel that was just unpacked is gone`);
  return kernel;
}

function digest(): string {
  return createHash('sha256').update(MODULES.join()).digest('hex').slice(0, 8);
}

/** The package that Debian's meta package stands for; asks the archive for its lists when there are none. */
async function newestPackage(): Promise<string> {
  const look = async (): Promise<string | undefined> => {
    const { stdout } = await execute('apt-cache', ['depends', META_PACKAGE]).catch(() => ({ stdout: '' }));
    return /Depends: (linux-image-\S+)/.exec(stdout)?.[1];
  };
  const known = await look();
  if (known !== undefined) return known;
  const mayUpdate = process.getuid?.() === 0;
  if (mayUpdate) await program('apt-get', ['update', '-q'], { timeout: DOWNLOAD_LIMIT });
  const found = mayUpdate ? await look() : undefined;
  if (found === undefined)
    throw new MachineError(
      `apt knows no ${META_PACKAGE}: on Debian for amd64, 'apt-get update' as root makes it known; elsewhere there is no kernel for the machine`,
    );
  return found;
}

async function program(
  file: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly timeout?: number },
): Promise<void> {
  try {
    await execute(file, args, { ...options, maxBuffer: MAX_OUTPUT });
  } catch (error) {
    const { stderr } = error as { readonly stderr?: string };
    const reason = stderr?.trim().split('\n').slice(-3).join('; ') ?? '';
    throw new MachineError(`${file} ${args.join(' ')}: ${reason === '' ? String(error) : reason}`, { cause: error });
  }
}

async function busyboxIn(root: string): Promise<string> {
  const path = ['bin/busybox', 'usr/bin/busybox'].map((name) => join(root, name)).find((name) => existsSync(name));
  if (path === undefined) throw new MachineError('the package busybox-static holds no busybox where Debian 12 and 13 have it');
  return Promise.resolve(path);
}

/** Cuts the ELF image out of a bzImage (Documentation/x86/boot.rst: setup_sects, payload_offset, payload_length). */
async function unpackedKernel(boot: string): Promise<Buffer> {
  const name = (await readdir(boot)).find((file) => file.startsWith('vmlinuz-'));
  if (name === undefined) throw new MachineError('the kernel package holds no /boot/vmlinuz');
  const image = await readFile(join(boot, name));
  const setupSectors = image.readUInt8(0x1f1);
  const start = ((setupSectors === 0 ? 4 : setupSectors) + 1) * 512 + image.readUInt32LE(0x248);
  // its last four bytes are the size of what it unpacks to
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c) - 4);
  const kernel = await decompressed(name, payload);
  if (kernel.readUInt32BE(0) !== 0x7f454c46) throw new MachineError(`${name}: what is packed in it is no ELF file`);
  return kernel;
}

/** Unpacks by what the first bytes say; passes on what is not packed. */
async function decompressed(name: string, bytes: Buffer): Promise<Buffer> {
  const magic = bytes.readUInt32BE(0);
  if (magic >>> 16 === 0x1f8b) return gunzipSync(bytes);
  if (magic === 0xfd377a58) return filtered('xz', ['-dc', '--single-stream'], bytes);
  if (magic === 0x28b52ffd) return filtered('zstd', ['-dcq'], bytes);
  if (magic === 0x7f454c46) return bytes;
  throw new MachineError(`${name}: packed in a way that is not known here (first bytes ${magic.toString(16)})`);
}

async function filtered(file: string, args: readonly string[], input: Buffer): Promise<Buffer> {
  const running = execute(file, args, { encoding: 'buffer', maxBuffer: MAX_OUTPUT });
  running.child.stdin?.on('error', () => undefined).end(input);
  try {
    return (await running).stdout;
  } catch (error) {
    throw new MachineError(`${file} ${args.join(' ')} failed; it is needed to unpack the kernel: ${String(error)}`, { cause: error });
  }
}

/** Copies the wanted modules and what they depend on, and writes down in which order they are loaded. */
async function collectModules(from: string, to: string): Promise<void> {
  const [release = ''] = await readdir(from);
  const builtIn = new Set((await readFile(join(from, release, 'modules.builtin'), 'utf8')).split('\n').map(moduleName));
  const paths = new Map<string, string>();
  for (const path of await readdir(join(from, release, 'kernel'), { recursive: true }))
    if (/\.ko(\.\w+)?$/.test(path)) paths.set(moduleName(path), join(from, release, 'kernel', path));

  const collected = new Map<string, readonly string[]>();
  const collect = async (name: string): Promise<readonly string[]> => {
    if (builtIn.has(name)) return [];
    const known = collected.get(name);
    if (known !== undefined) return known;
    const path = paths.get(name);
    if (path === undefined) throw new MachineError(`${release} has no module ${name}`);
    const contents = await decompressed(path, await readFile(path));
    const order = new Set<string>();
    for (const dependency of dependenciesIn(contents)) for (const needed of await collect(dependency)) order.add(needed);
    order.add(name);
    collected.set(name, [...order]);
    await writeFile(join(to, `${name}.ko`), contents);
    await writeFile(join(to, `${name}.deps`), [...order].join('\n') + '\n');
    return [...order];
  };
  for (const name of MODULES) await collect(name);
}

/** `kernel/drivers/vfio/pci/vfio-pci-core.ko.xz` -> `vfio_pci_core` */
function moduleName(path: string): string {
  return (path.split('/').at(-1) ?? '').replace(/\.ko(\.\w+)?$/, '').replaceAll('-', '_');
}

/** The names after `depends=` in a module's .modinfo. */
function dependenciesIn(contents: Buffer): readonly string[] {
  const key = '\0depends=';
  const start = contents.indexOf(key, 0, 'latin1');
  if (start < 0) return [];
  const text = contents.toString('latin1', start + key.length, contents.indexOf(0, start + key.length));
  return text
    .split(',')
    .filter((name) => name !== '')
    .map(moduleName);
}
