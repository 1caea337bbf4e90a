/**
 * What the suites against real peers need of the machine: packages, huge pages, privileges. Installs and raises what it may;
 * says what it may not.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const HUGE_PAGES = 256;
const NR_HUGEPAGES = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages';

/** Command -> the Debian package that holds it. */
const PACKAGES = new Map([
  ['dpdk-testpmd', 'dpdk-dev'],
  ['ip', 'iproute2'],
  ['unshare', 'util-linux'],
  ['tcpdump', 'tcpdump'],
  ['qemu-system-x86_64', 'qemu-system-x86'],
]);

/** The same for the test machine of test/vm. */
const MACHINE_PACKAGES = new Map(Object.entries(JSON.parse(readFileSync(new URL('../test/vm/packages.json', import.meta.url), 'utf8'))));

/** True when an executable of that name is on PATH or in the administrator's directories. */
export function hasCommand(name) {
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  return directories.some((directory) => directory !== '' && existsSync(join(directory, name)));
}

const isRoot = () => process.getuid?.() === 0;

/**
 * Installs the packages whose commands are missing, where it is root and has apt-get.
 * @returns why the peers are not to be had and how to change that; undefined when they are
 */
export function installPeers() {
  return install(PACKAGES);
}

/** The same for what the test machine needs. */
export function installMachine() {
  return install(MACHINE_PACKAGES);
}

function install(wanted) {
  const missing = () => [...wanted].filter(([command]) => !hasCommand(command));
  if (missing().length > 0 && isRoot() && hasCommand('apt-get')) {
    const packages = [...new Set(missing().map(([, name]) => name))];
    console.log(`installing ${packages.join(' ')}`);
    apt('update', '-q');
    apt('install', '--no-install-recommends', '-y', '-q', ...packages);
  }
  const without = missing();
  if (without.length === 0) return undefined;
  const commands = without.map(([command]) => command).join(', ');
  const packages = [...new Set(without.map(([, name]) => name))].join(' ');
  return `${commands} not found; as root on Debian this command installs what holds them: apt-get install --no-install-recommends ${packages}`;
}

function apt(...args) {
  const { status, error } = spawnSync('apt-get', args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    timeout: 300_000,
  });
  if (status !== 0) console.log(`apt-get ${args[0]}: ${error?.message ?? `exit status ${status}`}`);
}

/** Raises the pool of 2 MB pages to what a pair of processes needs, where it may; never lowers it. Returns a line to print. */
export function raiseHugePages() {
  const read = () => Number(readFileSync(NR_HUGEPAGES, 'utf8'));
  try {
    const before = read();
    if (before >= HUGE_PAGES) return `huge pages: ${before} of 2 MB`;
    writeFileSync(NR_HUGEPAGES, String(HUGE_PAGES));
    return `huge pages: raised from ${before} to ${read()} of 2 MB`;
  } catch (error) {
    return `huge pages: not raised (${error.code ?? error.message}); as root: echo ${HUGE_PAGES} > ${NR_HUGEPAGES}; the tests use ordinary pages`;
  }
}
