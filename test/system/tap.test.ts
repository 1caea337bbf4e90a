import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { VirtioError } from '../../src/system/error.ts';
import { requestPlain, requestRead, requestWrite } from '../../src/system/ioctl.ts';
import {
  checkTapName,
  decodeTapName,
  encodeTapRequest,
  IFF_MULTI_QUEUE,
  IFF_NO_PI,
  IFF_TAP,
  IFF_VNET_HDR,
  Tap,
  TUN,
  type TapOptions,
} from '../../src/system/tap.ts';
import { until } from '../support/deadline.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('ioctl numbers', () => {
  it('are those of the kernel', () => {
    // linux/if_tun.h and linux/vhost.h as a C compiler prints them on x86-64
    expect([TUN.SETIFF, TUN.SETOFFLOAD, TUN.GETIFF, TUN.SETSNDBUF, TUN.SETVNETHDRSZ, TUN.SETQUEUE, TUN.SETCARRIER]).toEqual([
      0x400454ca, 0x400454d0, 0x800454d2, 0x400454d4, 0x400454d8, 0x400454d9, 0x400454e2,
    ]);
    expect([requestPlain(0xaf, 1), requestRead(0xaf, 0, 8), requestWrite(0xaf, 0x11, 40)]).toEqual([0xaf01, 0x8008af00, 0x4028af11]);
  });
});

describe('struct ifreq', () => {
  it('has the name in 16 bytes and the flags behind it', () => {
    expect(hex(encodeTapRequest('tap%d', IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE))).toBe(
      `${hex(Buffer.from('tap%d'))}${'00'.repeat(11)}0251${'00'.repeat(22)}`,
    );
  });

  it('gives the name back, of the longest kind too', () => {
    expect(decodeTapName(encodeTapRequest('tap0', 0))).toBe('tap0');
    expect(decodeTapName(encodeTapRequest('fifteen-letters', 0xffff))).toBe('fifteen-letters');
  });

  it.each([
    ['sixteen-letters-', /^iface=.*: 16 characters.*at most 15/],
    ['äöüäöüäö', /^iface=.*: 16 characters.*at most 15/],
    ['', /not empty/],
    ['..', /not empty/],
    ['a/b', /has no/],
    ['tap%d', /number for the %/],
    ['tap 0', /or space/],
  ])('refuses the name "%s"', (name, text) => {
    expect(() => checkTapName('iface', name)).toThrow(text);
  });

  it('takes good names', () => {
    for (const name of ['tap0', 'a', 'fifteen-letters', 'my.tap_1']) expect(() => checkTapName('iface', name)).not.toThrow();
  });
});

/** Making a tap takes CAP_NET_ADMIN and a device. */
function whyNoTaps(): string | undefined {
  if (process.getuid?.() !== 0) return 'not root';
  if (!existsSync('/dev/net/tun')) return 'no /dev/net/tun';
  try {
    new Tap({ queues: 1, virtioHeader: true }).close();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const WHY_NO_TAPS = whyNoTaps();
let names = 0;
const freshName = (): string => `dts${process.pid}-${++names}`;
const ip = (...args: readonly string[]): string => execFileSync('ip', args, { encoding: 'utf8' });
const attribute = (name: string, file: string): string => readFileSync(`/sys/class/net/${name}/${file}`, 'utf8').trim();
const interfaceExists = (name: string): boolean => existsSync(`/sys/class/net/${name}`);
const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

function open(options: Partial<TapOptions> = {}): Tap {
  const tap = new Tap({ name: freshName(), queues: 1, virtioHeader: true, ...options });
  onTestFinished(() => tap.close());
  return tap;
}

function persistent(...flags: readonly string[]): string {
  const name = freshName();
  ip('tuntap', 'add', 'dev', name, 'mode', 'tap', ...flags);
  onTestFinished(() => {
    if (interfaceExists(name)) ip('link', 'del', name);
  });
  return name;
}

function failure(options: Partial<TapOptions>): VirtioError {
  const before = openDescriptors();
  try {
    open(options);
  } catch (error) {
    expect(openDescriptors()).toBe(before);
    if (error instanceof VirtioError) return error;
    throw error;
  }
  throw new Error('no error');
}

describe.skipIf(WHY_NO_TAPS !== undefined)(`a tap${WHY_NO_TAPS === undefined ? '' : ` (skipped: ${WHY_NO_TAPS})`}`, () => {
  it('is there while it is open, and nothing stays behind', () => {
    const before = openDescriptors();
    const tap = open();
    expect(interfaceExists(tap.name)).toBe(true);
    expect(tap.exists).toBe(true);
    tap.close();
    tap.close();
    expect(interfaceExists(tap.name)).toBe(false);
    expect(tap.exists).toBe(false);
    expect(openDescriptors()).toBe(before);
  });

  it('is named by the kernel when no name is given', () => {
    const tap = open({ name: undefined });
    expect(tap.name).toMatch(/^tap\d+$/);
    expect(interfaceExists(tap.name)).toBe(true);
  });

  it('has the flags, header and offloads that were asked for', () => {
    const tap = open();
    expect(Number(attribute(tap.name, 'tun_flags'))).toBe(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    tap.setHeaderBytes(12);
    tap.setOffloads(0);
    tap.liftSendLimit();
    expect(() => tap.setHeaderBytes(3)).toThrow(/tap dts.*: header of 3 bytes: Invalid argument \(TUNSETVNETHDRSZ\)/);
  });

  it('tells and takes its address and its MTU', () => {
    const tap = open();
    expect(Buffer.from(tap.mac).toString('hex')).toBe(attribute(tap.name, 'address').replaceAll(':', ''));
    tap.setMac(Uint8Array.of(2, 0, 0, 0xaa, 0xbb, 0xcc));
    expect(attribute(tap.name, 'address')).toBe('02:00:00:aa:bb:cc');
    expect(tap.mtu).toBe(1500);
    tap.setMtu(9000);
    expect(attribute(tap.name, 'mtu')).toBe('9000');
    expect(() => tap.setMtu(70_000)).toThrow(/MTU 70000: Invalid argument/);
    expect(() => tap.setMac(Uint8Array.of(1, 0, 0, 0, 0, 0))).toThrow(/address/);
  });

  it('keeps to its interface when that is renamed', () => {
    const tap = open();
    const renamed = freshName();
    ip('link', 'set', tap.name, 'name', renamed);
    tap.setMac(Uint8Array.of(2, 0, 0, 1, 2, 3));
    expect(attribute(renamed, 'address')).toBe('02:00:00:01:02:03');
    expect(() => tap.setMtu(1400)).toThrow(/renamed or moved/);
  });

  it('shows its carrier', () => {
    const tap = open();
    ip('link', 'set', tap.name, 'up');
    expect(tap.setCarrier(false)).toBe(true);
    expect(attribute(tap.name, 'carrier')).toBe('0');
    tap.setCarrier(true);
    expect(attribute(tap.name, 'carrier')).toBe('1');
  });

  it('has as many queues as asked for, each on and off', () => {
    const tap = open({ queues: 4 });
    expect(tap.queues).toHaveLength(4);
    const queues = (): number => readdirSync(`/sys/class/net/${tap.name}/queues`).filter((entry) => entry.startsWith('rx-')).length;
    expect(queues()).toBe(4);
    tap.attachQueue(2, false);
    tap.attachQueue(2, false);
    expect(queues()).toBe(3);
    tap.attachQueue(2, true);
    expect(queues()).toBe(4);
  });

  it('takes no more queues than the kernel allows', () => {
    expect(failure({ queues: 300 }).message).toMatch(/^tap dts.*: the tap takes no more than 256 queues/);
  });

  it.each([[[]], [['multi_queue']]])('attaches to an existing tap (%s) and leaves it there', (flags) => {
    const name = persistent(...flags);
    const tap = open({ name });
    expect(tap.name).toBe(name);
    tap.attachQueue(0, true);
    tap.close();
    expect(interfaceExists(name)).toBe(true);
  });

  it('says why an existing interface does not serve', () => {
    expect(failure({ name: persistent(), queues: 2 }).message).toMatch(/several queues; make one \(ip tuntap add/);
    expect(failure({ name: 'lo' }).message).toMatch(/^tap lo: an interface of this name exists that is no tap/);
    const { name } = open();
    const error = failure({ name });
    expect([error.code, error.message]).toEqual([
      'EBUSY',
      `tap ${name}: in use: another process has this tap; give another name with iface=`,
    ]);
    expect(failure({ name: 'sixteen-letters-' }).message).toMatch(/at most 15/);
  });

  it('notices that somebody removed it', () => {
    const tap = open();
    ip('link', 'del', tap.name);
    expect(tap.exists).toBe(false);
  });

  it('goes with a process that is killed', async () => {
    const name = freshName();
    const source = `import('${new URL('../../src/system/tap.ts', import.meta.url).href}').then(({ Tap }) => {
      new Tap({ name: '${name}', queues: 2, virtioHeader: true });
      setInterval(() => undefined, 1000);
    });`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--eval', source], { stdio: 'inherit' });
    onTestFinished(() => void child.kill('SIGKILL'));
    await until(
      10_000,
      () => `${name} to appear`,
      () => interfaceExists(name),
    );
    child.kill('SIGKILL');
    await until(
      5000,
      () => `${name} to go`,
      () => !interfaceExists(name),
    );
  });
});
