/**
 * Properties of the kernel's network interfaces, read and set by ioctl (netdevice(7)).
 *
 * The socket that carries the calls stays open with the object: it belongs to the network namespace in which it was made, and
 * goes on to see that one. Names are looked up anew at every call, so that an interface that is gone, or is another one by
 * now, is noticed.
 * @module
 */
import { closeSync, readFileSync } from 'node:fs';
import { VirtioError } from './error.ts';
import { bindNative, errnoName, systemError } from './ffi.ts';
import { addressOf } from './memory-map.ts';

/** Bytes of a name, its NUL not included (IFNAMSIZ - 1). The kernel cuts longer ones silently. */
export const INTERFACE_NAME_LIMIT = 15;

export const IFF_UP = 0x1;
export const IFF_RUNNING = 0x40;
export const ARPHRD_ETHER = 1;
export const ARPHRD_LOOPBACK = 772;

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
export const SIOCSIFHWADDR = 0x8924;
export const SIOCGIFHWADDR = 0x8927;
const SIOCGIFINDEX = 0x8933;
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GCHANNELS = 0x3c;

// struct ifreq, 40 bytes: name 0..15, then a union
export const IFREQ_BYTES = 40;
export const IFREQ_UNION = 16;
const CHANNELS_BYTES = 40;
/** In a sockaddr: u16 family (here the hardware type), then the address. */
const SOCKADDR_DATA = 2;

const native = {
  socket: bindNative('socket', 'i32', ['i32', 'i32', 'i32']),
  ioctl: bindNative('ioctl', 'i32', ['i32', 'i64', 'buffer']),
};

/** @throws VirtioError EINVAL for a name that no interface can have */
export function checkInterfaceName(what: string, name: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes > INTERFACE_NAME_LIMIT) {
    throw new VirtioError(
      `${what}=${name}: ${String(bytes)} characters, and an interface's name has at most ${String(INTERFACE_NAME_LIMIT)}`,
      {
        code: 'EINVAL',
      },
    );
  }
  if (name === '' || name === '.' || name === '..' || /[/:\s]/.test(name)) {
    throw new VirtioError(`${what}=${name}: an interface's name is not empty and has no '/', ':' or space`, { code: 'EINVAL' });
  }
}

/** Names of all interfaces in the network namespace of this process, in the kernel's order. */
export function interfaceNames(): readonly string[] {
  try {
    return readFileSync('/proc/self/net/dev', 'utf8')
      .split('\n')
      .flatMap((line) => /^\s*([^\s:]+):/.exec(line)?.[1] ?? []);
  } catch {
    return [];
  }
}

export class NetworkInterface {
  readonly name: string;
  readonly #socket: number;
  #open = true;

  /** Does not ask whether there is such an interface: `index()` does. @throws VirtioError EINVAL for an impossible name */
  constructor(name: string) {
    checkInterfaceName('interface', name);
    this.name = name;
    const { value, errno } = native.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
    if (value < 0) throw systemError(`a socket for the properties of ${name}`, 'socket', errno);
    this.#socket = value;
  }

  /** The interface's number; undefined when there is none of this name (any more). */
  index(): number | undefined {
    return this.#ask(SIOCGIFINDEX, 'SIOCGIFINDEX')?.readInt32LE(IFREQ_UNION);
  }

  /** IFF_* bits; undefined when there is no such interface. */
  flags(): number | undefined {
    return this.#ask(SIOCGIFFLAGS, 'SIOCGIFFLAGS')?.readUInt16LE(IFREQ_UNION);
  }

  /** Bytes of the largest packet behind the Ethernet header; undefined when there is no such interface. */
  mtu(): number | undefined {
    return this.#ask(SIOCGIFMTU, 'SIOCGIFMTU')?.readInt32LE(IFREQ_UNION);
  }

  /** Hardware type (ARPHRD_*) and address; undefined when there is no such interface. */
  hardware(): { readonly type: number; readonly address: Uint8Array } | undefined {
    const request = this.#ask(SIOCGIFHWADDR, 'SIOCGIFHWADDR');
    if (request === undefined) return undefined;
    const address = IFREQ_UNION + SOCKADDR_DATA;
    return { type: request.readUInt16LE(IFREQ_UNION), address: Uint8Array.from(request.subarray(address, address + 6)) };
  }

  /** How many receive and transmit queues are in use; undefined when the driver does not say, or there is no such interface. */
  queues(): { readonly receive: number; readonly transmit: number } | undefined {
    // struct ethtool_channels: u32 command, four limits, then receive, transmit, other and combined; behind it the request
    const bytes = Buffer.alloc(CHANNELS_BYTES + IFREQ_BYTES);
    bytes.writeUInt32LE(ETHTOOL_GCHANNELS, 0);
    const request = bytes.subarray(CHANNELS_BYTES);
    request.write(this.name, 0, 'utf8');
    request.writeBigUInt64LE(BigInt(addressOf(bytes)), IFREQ_UNION);
    const { value } = native.ioctl(this.#socket, SIOCETHTOOL, request);
    if (value < 0) return undefined;
    const combined = bytes.readUInt32LE(32);
    return { receive: combined + bytes.readUInt32LE(20), transmit: combined + bytes.readUInt32LE(24) };
  }

  /** Sets and clears IFF_* bits. @throws VirtioError EPERM without CAP_NET_ADMIN */
  setFlags(set: number, clear: number): void {
    const before = this.flags();
    if (before === undefined) throw this.#gone('SIOCGIFFLAGS');
    const request = this.#request();
    request.writeUInt16LE((before | set) & ~clear & 0xffff, IFREQ_UNION);
    this.#tell(SIOCSIFFLAGS, 'SIOCSIFFLAGS', request);
  }

  /** @throws VirtioError EINVAL outside the range of the interface, EPERM without CAP_NET_ADMIN */
  setMtu(mtu: number): void {
    const request = this.#request();
    request.writeInt32LE(mtu, IFREQ_UNION);
    this.#tell(SIOCSIFMTU, `MTU ${String(mtu)}`, request);
  }

  /** @throws VirtioError EBUSY where the interface must be down for it, EPERM without CAP_NET_ADMIN */
  setAddress(address: Uint8Array): void {
    const hardware = this.hardware();
    if (hardware === undefined) throw this.#gone('SIOCGIFHWADDR');
    const request = this.#request();
    request.writeUInt16LE(hardware.type, IFREQ_UNION);
    request.set(address, IFREQ_UNION + SOCKADDR_DATA);
    this.#tell(SIOCSIFHWADDR, 'the MAC address', request);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#socket);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #request(): Buffer {
    const request = Buffer.alloc(IFREQ_BYTES);
    request.write(this.name, 0, 'utf8');
    return request;
  }

  #ask(number: number, what: string): Buffer | undefined {
    const request = this.#request();
    const { value, errno } = native.ioctl(this.#socket, number, request);
    if (value >= 0) return request;
    if (['ENODEV', 'ENXIO'].includes(errnoName(errno))) return undefined;
    throw systemError(`interface ${this.name}: ${what}`, 'ioctl', errno);
  }

  #tell(number: number, what: string, request: Buffer): void {
    const { value, errno } = native.ioctl(this.#socket, number, request);
    if (value >= 0) return;
    const hint = errnoName(errno) === 'EPERM' ? ' (run as root, or with CAP_NET_ADMIN)' : '';
    throw systemError(`interface ${this.name}: setting ${what}${hint}`, 'ioctl', errno);
  }

  #gone(what: string): VirtioError {
    return new VirtioError(`interface ${this.name}: no such interface (${what})`, { code: 'ENODEV', syscall: 'ioctl' });
  }
}
