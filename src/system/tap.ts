/**
 * Taps: Ethernet interfaces of the kernel whose other end is a descriptor (Documentation/networking/tuntap.rst).
 *
 * One descriptor a queue. Without `persistent` on the kernel's side the interface goes with the last descriptor, however
 * the process ends.
 * @module
 */
import { constants, openSync } from 'node:fs';
import { VirtioError } from './error.ts';
import { closeFd } from './event-fd.ts';
import { errnoName, systemError } from './ffi.ts';
import { ioctl, requestRead, requestWrite } from './ioctl.ts';
import {
  ARPHRD_ETHER,
  checkInterfaceName,
  IFREQ_BYTES,
  IFREQ_UNION,
  INTERFACE_NAME_LIMIT,
  NetworkInterface,
  SIOCGIFHWADDR,
  SIOCSIFHWADDR,
} from './network-interface.ts';

const TUN_DEVICE = '/dev/net/tun';
const TYPE = 0x54;
/** Requests of /dev/net/tun (linux/if_tun.h). */
export const TUN = {
  SETIFF: requestWrite(TYPE, 202, 4),
  SETPERSIST: requestWrite(TYPE, 203, 4),
  SETOFFLOAD: requestWrite(TYPE, 208, 4),
  GETIFF: requestRead(TYPE, 210, 4),
  SETSNDBUF: requestWrite(TYPE, 212, 4),
  SETVNETHDRSZ: requestWrite(TYPE, 216, 4),
  SETQUEUE: requestWrite(TYPE, 217, 4),
  SETCARRIER: requestWrite(TYPE, 226, 4),
} as const;
export const IFF_TAP = 0x0002;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_ATTACH_QUEUE = 0x0200;
export const IFF_DETACH_QUEUE = 0x0400;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;

const INT_MAX = 0x7fff_ffff;

/** What the reader of a tap's descriptor takes unfinished (linux/if_tun.h): partial checksums, packets to be segmented. */
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
/** From Linux 6.2 on. */
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;

export interface TapOptions {
  /** Name of the interface, an existing tap's or a new one's; undefined: the kernel takes `prefix` and the first free number. */
  readonly name?: string | undefined;
  /** Default `tap`: tap0, tap1 ... */
  readonly prefix?: string | undefined;
  /** Queues, and so descriptors. */
  readonly queues: number;
  /** Every packet begins with a virtio-net header (IFF_VNET_HDR). */
  readonly virtioHeader: boolean;
  /** Other descriptors may be attached to the tap as further queues. Default: with several queues. */
  readonly multiQueue?: boolean | undefined;
}

function openTunDevice(): number {
  try {
    return openSync(TUN_DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
    const texts: Readonly<Record<string, string>> = {
      ENOENT: 'no such file: the kernel has no taps here; as root: modprobe tun, and in a container give it the device',
      ENODEV: 'no such device: as root: modprobe tun',
      EACCES: 'permission denied: run as root, or let your user read and write it',
      EPERM: 'not permitted: in a container, allow the device (character device 10:200)',
    };
    throw new VirtioError(`${TUN_DEVICE}: ${texts[code] ?? code}`, { code, syscall: 'open', cause });
  }
}

/** Bytes of a struct ifreq for TUNSETIFF and TUNSETQUEUE. @param name '' or with %d: the kernel completes it */
export function encodeTapRequest(name: string, flags: number): Buffer {
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(name, 0, INTERFACE_NAME_LIMIT, 'utf8');
  request.writeUInt16LE(flags, IFREQ_UNION);
  return request;
}

/** The name in a struct ifreq that the kernel completed. */
export function decodeTapName(request: Buffer): string {
  return request.toString('utf8', 0, Math.min(request.indexOf(0), IFREQ_UNION));
}

/** @throws VirtioError EINVAL for what no tap can be named; `what` is the argument's name */
export function checkTapName(what: string, name: string): void {
  checkInterfaceName(what, name);
  if (name.includes('%')) {
    throw new VirtioError(`${what}=${name}: the kernel would put a number for the %; give a whole name, or none`, { code: 'EINVAL' });
  }
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

/** Why TUNSETIFF failed, as far as its errno tells. */
function attachError(name: string, queues: number, queue: number, errno: number): VirtioError {
  const code = errnoName(errno);
  const many = queues > 1;
  const texts: Readonly<Record<string, string>> = {
    EPERM: 'not permitted: run as root or with CAP_NET_ADMIN, or make the tap for your user: ip tuntap add NAME mode tap user USER',
    EBUSY: 'in use: another process has this tap; give another name with iface=',
    E2BIG: `the tap takes no more than ${String(queue)} queues; ask for fewer`,
    EINVAL: many
      ? `an interface of this name exists that is no tap with several queues; make one (ip tuntap add ${name} mode tap multi_queue), or give another name`
      : 'an interface of this name exists that is no tap; give another name',
  };
  return new VirtioError(`tap ${name}: ${texts[code] ?? code}`, { code, syscall: 'TUNSETIFF', errno });
}

export class Tap {
  readonly name: string;
  /** A descriptor for each queue. */
  readonly queues: readonly number[];
  readonly #multiQueue: boolean;
  readonly #attached: boolean[];
  #open = true;

  /**
   * Makes a tap, or attaches to an existing one that nobody uses.
   * @throws VirtioError EINVAL for a bad name, EBUSY, EPERM, E2BIG, ENOENT without /dev/net/tun
   */
  constructor(options: TapOptions) {
    if (options.name !== undefined) checkTapName('tap', options.name);
    const flags = IFF_TAP | IFF_NO_PI | (options.virtioHeader ? IFF_VNET_HDR : 0);
    const queues: number[] = [];
    let name = options.name ?? `${options.prefix ?? 'tap'}%d`;
    let multiQueue = options.multiQueue ?? options.queues > 1;
    try {
      while (queues.length < options.queues) {
        const fd = openTunDevice();
        queues.push(fd);
        const attach = (): { readonly result: ReturnType<typeof ioctl>; readonly request: Buffer } => {
          const request = encodeTapRequest(name, multiQueue ? flags | IFF_MULTI_QUEUE : flags);
          return { result: ioctl(fd, TUN.SETIFF, request), request };
        };
        let { result, request } = attach();
        if (result.value < 0 && errnoName(result.errno) === 'EINVAL' && options.queues === 1) {
          // an existing tap for several queues serves with one, too, or is for one only: it wants to be asked for as what it is
          multiQueue = !multiQueue;
          ({ result, request } = attach());
        }
        if (result.value < 0) throw attachError(options.name ?? 'tap', options.queues, queues.length - 1, result.errno);
        name = decodeTapName(request);
      }
    } catch (error) {
      for (const fd of queues) closeFd(fd);
      throw error;
    }
    this.name = name;
    this.queues = queues;
    this.#multiQueue = multiQueue;
    this.#attached = queues.map(() => true);
  }

  /** False once somebody has removed the interface; its descriptors are of no use any more. */
  get exists(): boolean {
    return this.#open && ioctl(this.#first, TUN.GETIFF, Buffer.alloc(IFREQ_BYTES)).value >= 0;
  }

  /** Bytes of the header before every packet: 10 or 12. */
  setHeaderBytes(bytes: number): void {
    this.#set('TUNSETVNETHDRSZ', TUN.SETVNETHDRSZ, int32(bytes), `header of ${String(bytes)} bytes`);
  }

  /** Whether the kernel knows TUN_F_USO4 and TUN_F_USO6 (Linux 6.2), found out by asking for them; no offload is on afterwards. */
  knowsUdpSegments(): boolean {
    try {
      this.setOffloads(TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6);
      return true;
    } catch {
      return false;
    } finally {
      this.setOffloads(0);
    }
  }

  /** What the descriptor's side takes: TUN_F_* bits. */
  setOffloads(bits: number): void {
    this.#set('TUNSETOFFLOAD', TUN.SETOFFLOAD, bits, `offloads 0x${bits.toString(16)}`);
  }

  /** Lets the other end send without a limit; the kernel's vhost-net sends in batches only then. */
  liftSendLimit(): void {
    this.#set('TUNSETSNDBUF', TUN.SETSNDBUF, int32(INT_MAX), 'no limit of packets under way');
  }

  /** Six bytes. Asked of the descriptor: it is right in whatever namespace the interface is. */
  get mac(): Uint8Array {
    const request = Buffer.alloc(IFREQ_BYTES);
    this.#set('SIOCGIFHWADDR', SIOCGIFHWADDR, request, 'Ethernet address');
    return Uint8Array.from(request.subarray(IFREQ_UNION + 2, IFREQ_UNION + 8));
  }

  setMac(mac: Uint8Array): void {
    const request = Buffer.alloc(IFREQ_BYTES);
    request.writeUInt16LE(ARPHRD_ETHER, IFREQ_UNION);
    request.set(mac.subarray(0, 6), IFREQ_UNION + 2);
    this.#set('SIOCSIFHWADDR', SIOCSIFHWADDR, request, 'Ethernet address');
  }

  /** Asked by name, which the descriptor has no request for: the interface must be in this process's network namespace. */
  get mtu(): number {
    using named = this.#byName();
    return named.mtu() ?? 0;
  }

  setMtu(mtu: number): void {
    using named = this.#byName();
    named.setMtu(mtu);
  }

  /** Lets the interface stay when its descriptors are closed, or go with them. */
  setPersistent(on: boolean): void {
    this.#set('TUNSETPERSIST', TUN.SETPERSIST, on ? 1 : 0, on ? 'keeping the interface' : 'letting the interface go');
  }

  /** Says whether anybody is at the other end; returns false where the kernel (before 4.20) cannot be told. */
  setCarrier(on: boolean): boolean {
    return ioctl(this.#first, TUN.SETCARRIER, int32(on ? 1 : 0)).value >= 0;
  }

  /** Gives a queue its share of packets, or none. A tap with a single queue always has it. */
  attachQueue(queue: number, on: boolean): void {
    if (!this.#multiQueue || this.#attached[queue] === on) return;
    const fd = this.queues[queue];
    if (fd === undefined) throw new RangeError(`${this.name} has no queue ${String(queue)}`);
    const { value, errno } = ioctl(fd, TUN.SETQUEUE, encodeTapRequest('', on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE));
    if (value < 0) throw systemError(`tap ${this.name}: queue ${String(queue)} ${on ? 'on' : 'off'}`, 'TUNSETQUEUE', errno);
    this.#attached[queue] = on;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const fd of this.queues) closeFd(fd);
  }

  /** Another namespace may have taken the interface, and somebody else its name here. */
  #byName(): NetworkInterface {
    const named = new NetworkInterface(this.name);
    const address = named.hardware()?.address;
    if (address !== undefined && Buffer.compare(address, this.mac) === 0) return named;
    named.close();
    throw new VirtioError(`tap ${this.name}: it was renamed or moved to another network namespace; set its MTU there`, { code: 'ENODEV' });
  }

  get #first(): number {
    return this.queues[0] ?? -1;
  }

  #set(syscall: string, code: number, argument: number | Uint8Array, what: string): void {
    const { value, errno } = ioctl(this.#first, code, argument);
    if (value < 0) throw systemError(`tap ${this.name}: ${what}`, syscall, errno);
  }
}
