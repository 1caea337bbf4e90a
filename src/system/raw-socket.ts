/**
 * Sockets that the kernel gives to privileged processes for whole packets: what packet sockets and XDP sockets have in common.
 * @module
 */
import { closeSync } from 'node:fs';
import { VirtioError } from './error.ts';
import { bindNative, errnoName, systemError, type NativeResult } from './ffi.ts';

const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0x800 | 0x80000;

const native = {
  socket: bindNative('socket', 'i32', ['i32', 'i32', 'i32']),
  bind: bindNative('bind', 'i32', ['i32', 'buffer', 'i32']),
  setsockopt: bindNative('setsockopt', 'i32', ['i32', 'i32', 'i32', 'buffer', 'i32']),
  getsockopt: bindNative('getsockopt', 'i32', ['i32', 'i32', 'i32', 'buffer', 'buffer']),
};

/** u32 values as the bytes of an option. */
export function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, 4 * index);
  return bytes;
}

export interface RawSocketKind {
  /** AF_*. */
  readonly family: number;
  /** SOL_*: what set() and get() are about. */
  readonly level: number;
  /** In messages: `packet socket`. */
  readonly name: string;
  /** What to say instead of the kernel's own words, by the name of the error. */
  readonly hints?: Readonly<Record<string, string>>;
}

export class RawSocket implements Disposable {
  readonly fd: number;
  /** The owner, for messages. */
  protected readonly what: string;
  readonly #kind: RawSocketKind;
  #open = true;

  /** @throws VirtioError EPERM without CAP_NET_RAW */
  protected constructor(what: string, kind: RawSocketKind) {
    this.what = what;
    this.#kind = kind;
    const { value, errno } = native.socket(kind.family, SOCK_RAW_NONBLOCK_CLOEXEC, 0);
    if (value < 0) {
      const code = errnoName(errno);
      const article = kind.name.startsWith('X') ? 'an' : 'a';
      const hint =
        code === 'EPERM' ? `the kernel gives ${article} ${kind.name} to root, or to a process with CAP_NET_RAW, only` : kind.hints?.[code];
      if (hint !== undefined) throw new VirtioError(`${what}: ${hint}`, { code, syscall: 'socket', errno });
      throw systemError(`${what}: ${kind.name}`, 'socket', errno);
    }
    this.fd = value;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** bind(2) to an address of the family; does not throw. */
  protected bindTo(address: Buffer): NativeResult {
    return native.bind(this.fd, address, address.length);
  }

  /** setsockopt(2), for options that a kernel need not have; does not throw. */
  protected trySet(option: number, value: Buffer, level = this.#kind.level): NativeResult {
    return native.setsockopt(this.fd, level, option, value, value.length);
  }

  /** @param what the option in messages */
  protected set(option: number, value: Buffer, what: string): void {
    const { value: result, errno } = this.trySet(option, value);
    if (result < 0) throw systemError(`${this.what}: ${what}`, 'setsockopt', errno);
  }

  /** @param bytes of the option's value */
  protected get(option: number, bytes: number, what: string): Buffer {
    const value = Buffer.alloc(bytes);
    const { value: result, errno } = native.getsockopt(this.fd, this.#kind.level, option, value, words(bytes));
    if (result < 0) throw systemError(`${this.what}: ${what}`, 'getsockopt', errno);
    return value;
  }
}
