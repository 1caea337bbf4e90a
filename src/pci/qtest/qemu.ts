/**
 * A QEMU of our own: a machine with a halted CPU, a virtio-net device, and our packet memory plugged into it. What a user starts by hand
 * for `qtest=PATH` (docs/qtest.md), started by `qemu=auto`.
 *
 * Everything goes to it as open descriptors: no path, no file that could stay behind. It ends with us, however we end.
 * @module
 */
import { spawn } from 'node:child_process';
import { statSync, writeSync } from 'node:fs';
import type { Duplex, Readable } from 'node:stream';
import type { Arena } from '../../memory/arena.ts';
import { formatMac, type MacAddress } from '../../net/mac-address.ts';
import { VirtioError } from '../../system/error.ts';
import { closeFd } from '../../system/event-fd.ts';
import { createMemoryFile } from '../../system/memory-map.ts';
import { Doorbell } from './doorbell.ts';
import type { ChipSet } from './hot-plug.ts';
import { QtestLink } from './protocol.ts';

const BIOS_BYTES = 64 * 1024;
/** Where the CPU begins: cli; hlt; jmp to the hlt. */
const RESET_VECTOR = 0xfff0;
const HALT = Uint8Array.of(0xfa, 0xf4, 0xeb, 0xfd);
/** Where our memory is plugged: everything below is the machine's own. */
const ABOVE = 2 ** 32;
const END_MILLISECONDS = 5000;
/** Its first answer comes when it has started, and nobody else can be connected to it. */
const ANSWER_MILLISECONDS = 30_000;

export interface QemuOptions {
  /** How messages name the machine: the port. */
  readonly name: string;
  readonly arena: Arena;
  /** Program: a name to look for in PATH, or a path. */
  readonly program: string;
  readonly chipSet: ChipSet;
  /** QEMU's `-netdev` without its id: `user`, `tap,ifname=tap0`, `dgram,...`, `vhost-user,path=/tmp/vhost.sock`. */
  readonly netdev: string;
  /** More properties of virtio-net-pci: `packed=on,host_mtu=1400`. */
  readonly device: string | undefined;
  readonly queuePairs: number;
  /** Of the device: QEMU gives the first card of every machine the same one. */
  readonly mac: MacAddress;
  /** Slot on bus 0. */
  readonly slot: number;
  /** Where QEMU's monitor (QMP) is to listen; undefined: nowhere. */
  readonly monitor: string | undefined;
}

export interface QemuEnd {
  /** `ended by signal SIGSEGV`, `ended with exit status 1` */
  readonly how: string;
  /** One line; empty when it said nothing. */
  readonly said: string;
  /** Its last line. */
  readonly lastLine: string;
}

export interface Qemu {
  readonly link: QtestLink;
  readonly doorbell: Doorbell;
  readonly pid: number;
  /** Resolves when it has ended, with how, and what it said on its error output. */
  readonly ended: Promise<QemuEnd>;
  close(): Promise<void>;
}

/** QEMU 7.2 dies of MSI-X with a vhost-user device on a machine without KVM. */
export function canHaveMsix(netdev: string): boolean {
  return !netdev.startsWith('vhost-user');
}

/** Why a path is no socket to connect to, or undefined. */
function checkBackEnd(name: string, path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isSocket() === true) return;
  throw new VirtioError(`${name}: netdev=[vhost-user,path=${path}]: there is no such socket; start the back-end first`, { code: 'ENOENT' });
}

function netdevArguments({ name, netdev, queuePairs }: QemuOptions): readonly string[] {
  const [kind = '', ...words] = netdev.split(',');
  const queues = queuePairs > 1 ? [`queues=${String(queuePairs)}`] : [];
  const has = (key: string): boolean => words.some((word) => word.startsWith(`${key}=`));
  if (kind === 'vhost-user') {
    const path = words.find((word) => word.startsWith('path='))?.slice('path='.length);
    const rest = words.filter((word) => !word.startsWith('path='));
    if (path === undefined) {
      throw new VirtioError(`${name}: netdev=[${netdev}]: give the back-end's socket: [vhost-user,path=/path/to/socket]`, {
        code: 'EINVAL',
      });
    }
    checkBackEnd(name, path);
    return [
      ...['-chardev', `socket,id=backend,path=${path},reconnect=1`],
      ...['-netdev', [`vhost-user,id=net0,chardev=backend`, ...queues, ...rest].join(',')],
    ];
  }
  // no script of the distribution's is asked to configure somebody's tap
  const scripts = kind === 'tap' ? ['script', 'downscript'].filter((key) => !has(key)).map((key) => `${key}=no`) : [];
  const several = kind === 'tap' && !has('queues') ? queues : [];
  return ['-netdev', [kind, 'id=net0', ...words, ...scripts, ...several].join(',')];
}

/** Descriptors in QEMU: 3 its firmware, 4 our memory, 5 qtest, 6 the doorbell. */
function qemuArguments(options: QemuOptions, doorbell: Doorbell): readonly string[] {
  const { arena, chipSet, device, mac, monitor, netdev, queuePairs, slot } = options;
  const { guestAddress, bytes } = arena.publishedRegion;
  const properties = [
    `virtio-net-pci,netdev=net0,addr=0x${slot.toString(16)},disable-legacy=on,mac=${formatMac(mac)}`,
    `vectors=${canHaveMsix(netdev) ? String(2 * queuePairs + 2) : '0'}`,
    ...(queuePairs > 1 ? ['mq=on'] : []),
    ...(device === undefined ? [] : [device]),
  ];
  return [
    ...['-M', chipSet, '-accel', 'tcg', '-m', '16M,slots=1,maxmem=16G'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-bios', '/proc/self/fd/3'],
    ...['-object', `memory-backend-file,id=arena,size=${String(bytes)},mem-path=/proc/self/fd/4,share=on`],
    // at the arena's own offsets, one above them in the high word
    ...['-device', `pc-dimm,memdev=arena,addr=0x${(ABOVE + guestAddress).toString(16)}`],
    ...['-chardev', 'socket,id=qtest,fd=5', '-qtest', 'chardev:qtest', '-qtest-log', '/dev/null'],
    ...netdevArguments(options),
    ...['-device', properties.join(',')],
    ...['-chardev', 'socket,id=doorbell,fd=6', '-device', `ivshmem-doorbell,chardev=doorbell,vectors=${String(doorbell.vectors)}`],
    ...(monitor === undefined ? [] : ['-qmp', `unix:${monitor},server=on,wait=off`]),
  ];
}

/**
 * Starts QEMU; its link can be used at once.
 * @throws VirtioError for what can be seen beforehand; whatever QEMU itself refuses ends the link, and is in `ended`
 */
export function startQemu(options: QemuOptions): Qemu {
  const { name, arena, program, queuePairs } = options;
  const doorbell = new Doorbell(2 * queuePairs + 2);
  const bios = createMemoryFile('dpdk-ts-halt', 4096);
  try {
    const image = new Uint8Array(BIOS_BYTES);
    image.set(HALT, RESET_VECTOR);
    writeSync(bios, image);
    const args = qemuArguments(options, doorbell);
    const streams = ['ignore', 'ignore', 'pipe', bios, arena.publishedFile, 'pipe', doorbell.qemuEnd];
    // the wrapper becomes QEMU, which the kernel ends when this process is gone
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { stdio: streams as ('ignore' | 'pipe' | number)[] });
    const [, , errors, , , stream] = child.stdio as readonly unknown[] as readonly [null, null, Readable, null, null, Duplex];
    let said = '';
    errors.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-2000)));
    const kill = (): void => void child.kill('SIGKILL');
    process.once('exit', kill);
    const ended = new Promise<QemuEnd>((resolve) => {
      const resolveWith = (how: string, text: string): void => {
        const lines = text.trim().split('\n');
        resolve({ how, said: lines.join('; '), lastLine: lines.at(-1) ?? '' });
      };
      child.once('error', (error) => {
        resolveWith('could not be executed', `setpriv (util-linux): ${error.message}`);
      });
      child.once('close', (code, signal) => {
        resolveWith(signal === null ? `ended with exit status ${String(code)}` : `ended by signal ${signal}`, said);
      });
    }).finally(() => {
      process.removeListener('exit', kill);
    });
    const link = new QtestLink(stream, { peer: `QEMU of ${name}`, answerMilliseconds: ANSWER_MILLISECONDS });
    return {
      link,
      doorbell,
      pid: child.pid ?? -1,
      ended,
      async close() {
        link.close();
        child.kill('SIGTERM');
        const late = setTimeout(kill, END_MILLISECONDS);
        await ended;
        clearTimeout(late);
        doorbell.close();
      },
    };
  } catch (error) {
    doorbell.close();
    throw error;
  } finally {
    doorbell.handedOver();
    closeFd(bios);
  }
}
