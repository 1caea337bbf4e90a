/**
 * The machine's first and only root file system: busybox, the modules, init, and the command of this run. Everything else is shared with
 * the host. Written anew for each run, as nothing in it takes time.
 * @module
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CpioArchive } from './cpio.ts';
import type { Kernel } from './kernel.ts';

/** A folder of the host, at its own path inside. */
export interface Share {
  readonly path: string;
  readonly writable: boolean;
}

export interface Contents {
  readonly kernel: Kernel;
  readonly shares: readonly Share[];
  /** Modules to load once the shares are mounted. */
  readonly modules: readonly string[];
  /** Words, or a line of shell. */
  readonly command: readonly string[] | string;
  readonly workingFolder: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Where the command's input comes from. */
  readonly input: 'none' | 'pipe' | 'terminal';
  /** Executable of Node.js, and the project's compiled commands by their names. */
  readonly node: string;
  readonly programs: Readonly<Record<string, string>>;
}

const HERE = dirname(fileURLToPath(import.meta.url));
/** What init.sh calls. */
const APPLETS = 'cat chmod env hostname insmod ip kill ln mkdir mkfifo mount poweroff setsid sh sync umount usleep'.split(' ');
const FOLDERS = 'dev proc sys run usr root mnt var etc'.split(' ');

/** The 9p tag of a share. */
export function shareTag(index: number): string {
  return `share${index}`;
}

export async function initramfs(contents: Contents): Promise<Buffer> {
  const archive = new CpioArchive();
  for (const name of FOLDERS) archive.directory(name);
  archive.directory('tmp', 0o1777);
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) archive.link(name, `usr/${name}`);
  archive.link('var/run', '/run').link('var/tmp', '/tmp').link('var/lock', '/run');

  archive.file('init', await readFile(join(HERE, 'init.sh')), 0o755);
  archive.file('vm/busybox', await readFile(contents.kernel.busybox), 0o755);
  for (const name of APPLETS) archive.link(`vm/applets/${name}`, '/vm/busybox');
  archive.file('vm/bin/modprobe', await readFile(join(HERE, 'modprobe.sh')), 0o755);
  for (const [name, path] of Object.entries(contents.programs))
    archive.file(`vm/bin/${name}`, `#!/bin/sh\nexec ${quoted(contents.node)} ${quoted(path)} "$@"\n`, 0o755);
  archive.file('vm/settings', settings(contents));
  archive.file('vm/shares', contents.shares.map(mountLine).join(''));
  archive.file('vm/command', commandScript(contents), 0o755);
  for (const name of await readdir(contents.kernel.modules))
    archive.file(`vm/modules/${name}`, await readFile(join(contents.kernel.modules, name)));
  await addConfiguration(archive);
  return archive.finish();
}

function settings({ node, input, modules }: Contents): string {
  const path = ['/vm/bin', dirname(node), '/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
  const values = {
    COMMAND_PATH: path.join(':'),
    INPUT: input,
    MODULES: modules.join(' '),
    TERMINAL: process.env['TERM'] ?? 'linux',
  };
  return Object.entries(values)
    .map(([name, value]) => `${name}=${quoted(value)}\n`)
    .join('');
}

function mountLine({ path, writable }: Share, index: number): string {
  return `${shareTag(index)} ${writable ? 'cache=mmap,rw' : 'cache=loose,ro'} ${path}\n`;
}

function commandScript({ command, workingFolder, environment, input }: Contents): string {
  const size = input === 'terminal' ? `stty rows ${process.stdout.rows} cols ${process.stdout.columns}\n` : '';
  const variables = Object.entries(environment).map(([name, value]) => `export ${name}=${quoted(value)}\n`);
  const line = typeof command === 'string' ? command : `exec ${command.map(quoted).join(' ')}`;
  return `${size}cd ${quoted(workingFolder)} || exit 125\n${variables.join('')}${line}\n`;
}

/** The little of /etc that programs look for; links of /etc/alternatives as on the host, for awk, which, nc. */
async function addConfiguration(archive: CpioArchive): Promise<void> {
  archive.file('etc/passwd', 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n');
  archive.file('etc/group', 'root:x:0:\nnogroup:x:65534:\n');
  archive.file('etc/hosts', '127.0.0.1 localhost vm\n::1 localhost\n');
  for (const name of ['ld.so.cache', 'protocols', 'services', 'ethertypes']) {
    const file = await readFile(join('/etc', name)).catch(() => undefined);
    if (file !== undefined) archive.file(`etc/${name}`, file);
  }
  const alternatives = '/etc/alternatives';
  for (const entry of await readdir(alternatives, { withFileTypes: true }).catch(() => []))
    if (entry.isSymbolicLink()) archive.link(`etc/alternatives/${entry.name}`, await readlink(join(alternatives, entry.name)));
}

/** A word for the shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
