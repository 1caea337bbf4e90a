/**
 * The BPF side of AF_XDP: a map of sockets, one by receive queue, and a program of six instructions that hands a packet to the
 * socket of its queue and everything else to the kernel's stack. Nothing is compiled or read from a file: the instructions
 * are written down here (Documentation/bpf/standardization/instruction-set.rst) and loaded with bpf(2).
 *
 * Everything is held by descriptors: when they are closed, on whatever path the process ends, the program leaves its interface.
 * @module
 */
import { closeSync } from 'node:fs';
import { VirtioError } from './error.ts';
import { bindNative, errnoName, systemError, type NativeResult } from './ffi.ts';
import { addressOf } from './memory-map.ts';

const syscall = bindNative('syscall', 'i64', ['i64', 'i64', 'buffer', 'i64']);
/** The number of bpf(2), which has no function in libc. */
const SYS_BPF: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 321, arm64: 280 };

const BPF_MAP_CREATE = 0;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_PROG_LOAD = 5;
const BPF_LINK_CREATE = 28;
const BPF_MAP_TYPE_XSKMAP = 17;
const BPF_PROG_TYPE_XDP = 6;
const BPF_XDP = 37;
/** The program meets packets in the kernel's stack, whatever the driver. */
export const XDP_FLAGS_SKB_MODE = 2;
/** In the driver, before the kernel has made anything of them. */
export const XDP_FLAGS_DRV_MODE = 4;

const BPF_FUNC_REDIRECT_MAP = 51;
const XDP_PASS = 2;
/** In struct xdp_md. */
const RX_QUEUE_INDEX = 16;
const BPF_PSEUDO_MAP_FD = 1;

/** union bpf_attr, and behind it in the same buffer, so that it stays where it is, what the attributes point to. */
const ATTRIBUTES_BYTES = 128;
const INSTRUCTIONS = 128;
const LICENSE = 192;
const LOG = 256;
const LOG_BYTES = 8192;
const NAME = 'dpdk_ts_xsk';

function bpf(command: number, attributes: Buffer): NativeResult {
  const number = SYS_BPF[process.arch];
  if (number === undefined) throw new VirtioError(`bpf(2): its number on ${process.arch} is not known`, { code: 'EOPNOTSUPP' });
  return syscall(number, command, attributes, ATTRIBUTES_BYTES);
}

function bpfError(what: string, errno: number): VirtioError {
  const code = errnoName(errno);
  if (code === 'EPERM') {
    return new VirtioError(
      `${what}: not permitted: run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF (before Linux 5.11 the limit on locked memory may be the reason too: ulimit -l unlimited)`,
      { code, syscall: 'bpf', errno },
    );
  }
  if (code === 'ENOSYS' || code === 'EINVAL') {
    return new VirtioError(`${what}: this kernel cannot (${code}); AF_XDP with a BPF link needs Linux 5.9 and CONFIG_XDP_SOCKETS`, {
      code,
      syscall: 'bpf',
      errno,
    });
  }
  return systemError(what, 'bpf', errno);
}

/** One instruction, 8 bytes: operation, destination register and source register << 4, i16 offset, i32 value. */
function instruction(bytes: Buffer, index: number, operation: number, registers: number, offset: number, value: number): void {
  const at = INSTRUCTIONS + 8 * index;
  bytes.writeUInt8(operation, at);
  bytes.writeUInt8(registers, at + 1);
  bytes.writeInt16LE(offset, at + 2);
  bytes.writeInt32LE(value, at + 4);
}

/** The map and the program of one interface's queues. */
export class SocketMap {
  readonly #what: string;
  readonly #map: number;
  readonly #program: number;
  #open = true;

  /**
   * Loads the program, which does nothing before it is attached.
   * @param what the owner, for messages
   * @param queues one more than the highest receive queue that can get a socket
   * @throws VirtioError EPERM without the privileges
   */
  constructor(what: string, queues: number) {
    this.#what = what;
    const attributes = Buffer.alloc(ATTRIBUTES_BYTES);
    // u32 type, key size, value size, entries; name at 28
    for (const [index, value] of [BPF_MAP_TYPE_XSKMAP, 4, 4, queues].entries()) attributes.writeUInt32LE(value, 4 * index);
    attributes.write(NAME, 28);
    const map = bpf(BPF_MAP_CREATE, attributes);
    if (map.value < 0) throw bpfError(`${what}: the map of XDP sockets`, map.errno);
    this.#map = map.value;
    try {
      this.#program = this.#load();
    } catch (error) {
      closeSync(this.#map);
      throw error;
    }
  }

  #load(): number {
    const bytes = Buffer.alloc(LOG + LOG_BYTES);
    const base = addressOf(bytes);
    // r2 = the packet's receive queue
    instruction(bytes, 0, 0x61, 0x12, RX_QUEUE_INDEX, 0);
    // r1 = the map, a value of 64 bits in two instructions
    instruction(bytes, 1, 0x18, 0x01 | (BPF_PSEUDO_MAP_FD << 4), 0, this.#map);
    // r3 = what becomes of packets whose queue has no socket
    instruction(bytes, 3, 0xb7, 0x03, 0, XDP_PASS);
    instruction(bytes, 4, 0x85, 0, 0, BPF_FUNC_REDIRECT_MAP);
    instruction(bytes, 5, 0x95, 0, 0, 0);
    bytes.write('Dual BSD/GPL', LICENSE);
    bytes.writeUInt32LE(BPF_PROG_TYPE_XDP, 0);
    bytes.writeUInt32LE(6, 4);
    bytes.writeBigUInt64LE(BigInt(base + INSTRUCTIONS), 8);
    bytes.writeBigUInt64LE(BigInt(base + LICENSE), 16);
    bytes.write(NAME, 48);
    bytes.writeUInt32LE(BPF_XDP, 68);
    const { value, errno } = bpf(BPF_PROG_LOAD, bytes);
    if (value >= 0) return value;
    // once more, for the verifier's words
    bytes.writeUInt32LE(1, 24);
    bytes.writeUInt32LE(LOG_BYTES, 28);
    bytes.writeBigUInt64LE(BigInt(base + LOG), 32);
    bpf(BPF_PROG_LOAD, bytes);
    const end = bytes.indexOf(0, LOG);
    const said = bytes.toString('utf8', LOG, end).trim().split('\n').slice(-2).join('; ');
    throw bpfError(`${this.#what}: the XDP program${said === '' ? '' : ` (${said})`}`, errno);
  }

  /** From now on, packets of this receive queue go to the socket. */
  set(queue: number, socket: number): void {
    const bytes = Buffer.alloc(ATTRIBUTES_BYTES + 8);
    const base = addressOf(bytes);
    bytes.writeUInt32LE(this.#map, 0);
    bytes.writeBigUInt64LE(BigInt(base + ATTRIBUTES_BYTES), 8);
    bytes.writeBigUInt64LE(BigInt(base + ATTRIBUTES_BYTES + 4), 16);
    bytes.writeUInt32LE(queue, ATTRIBUTES_BYTES);
    bytes.writeInt32LE(socket, ATTRIBUTES_BYTES + 4);
    const { value, errno } = bpf(BPF_MAP_UPDATE_ELEM, bytes);
    if (value < 0) throw bpfError(`${this.#what}: the XDP socket of queue ${String(queue)}`, errno);
  }

  /**
   * Lets the program see the packets of an interface until the returned descriptor is closed.
   * @param mode XDP_FLAGS_DRV_MODE or XDP_FLAGS_SKB_MODE
   */
  attach(interfaceIndex: number, mode: number): { readonly fd: number } | { readonly errno: number } {
    const attributes = Buffer.alloc(ATTRIBUTES_BYTES);
    for (const [index, value] of [this.#program, interfaceIndex, BPF_XDP, mode].entries()) attributes.writeUInt32LE(value, 4 * index);
    const { value, errno } = bpf(BPF_LINK_CREATE, attributes);
    return value < 0 ? { errno } : { fd: value };
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#program);
    closeSync(this.#map);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
