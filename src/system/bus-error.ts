/**
 * Surviving a peer that makes its shared file shorter while it is mapped: touching what is gone raises SIGBUS, which ends a process.
 *
 * A handler of our own, a few instructions of x86-64 in a page of their own, looks where the access went. In a guarded range (the
 * windows for peers' memory) it counts the fault, lays 2 MB of empty memory over the place and lets the access happen again; whoever
 * guards the range sees the count and lets the peer go. Anywhere else the signal does what it always did.
 *
 *     code page (read, execute):   the instructions below
 *     table page (read, write):    16 entries { u64 start, u64 end, u64 address of a u32 counter }, then a sigaction of zeros
 *
 * System calls and registers: System V ABI, x86-64; siginfo's si_addr is at 16 (sigaction(2)).
 * @module
 */
import { arch } from 'node:process';
import { bindNative } from './ffi.ts';
import { MAP_ANONYMOUS, MAP_PRIVATE, mapMemory, PROT_READ_WRITE } from './memory-map.ts';

const SIGBUS = 7;
const SA_SIGINFO = 4;
/** struct sigaction of glibc: u64 handler, 128 bytes of mask, i32 flags, padding, u64 restorer. */
const SIGACTION_BYTES = 152;
const SIGACTION_FLAGS = 136;
const PAGE = 4096;
const PROT_READ_EXECUTE = 5;
const SLOTS = 16;
const ENTRY_BYTES = 24;
const DEFAULT_ACTION = SLOTS * ENTRY_BYTES;

const native = {
  memcpy: bindNative('memcpy', 'i64', ['i64', 'buffer', 'i64']),
  mprotect: bindNative('mprotect', 'i32', ['i64', 'i64', 'i32']),
  sigaction: bindNative('sigaction', 'i32', ['i32', 'buffer', 'i64']),
};

function le64(value: number): number[] {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return [...bytes];
}

/** void handler(int signal, siginfo_t *info, void *context), for a table at `table`. */
function handlerCode(table: number): Uint8Array {
  return Uint8Array.from([
    ...[0x48, 0x8b, 0x46, 0x10], //                    mov  rax, [rsi + 16]      si_addr
    ...[0x49, 0xb8, ...le64(table)], //                mov  r8, table
    ...[0xb9, SLOTS, 0, 0, 0], //                      mov  ecx, 16
    ...[0x49, 0x3b, 0x00], //                    next: cmp  rax, [r8]
    ...[0x72, 0x06], //                                jb   skip
    ...[0x49, 0x3b, 0x40, 0x08], //                    cmp  rax, [r8 + 8]
    ...[0x72, 0x27], //                                jb   guarded
    ...[0x49, 0x83, 0xc0, ENTRY_BYTES], //       skip: add  r8, 24
    ...[0xff, 0xc9], //                                dec  ecx
    ...[0x75, 0xed], //                                jnz  next
    ...[0xb8, 13, 0, 0, 0], //                   give: mov  eax, 13              rt_sigaction(
    ...[0xbf, SIGBUS, 0, 0, 0], //                     mov  edi, 7                 SIGBUS,
    ...[0x48, 0xbe, ...le64(table + DEFAULT_ACTION)], // mov  rsi, default         the default action,
    ...[0x31, 0xd2], //                                xor  edx, edx               NULL,
    ...[0x41, 0xba, 8, 0, 0, 0], //                    mov  r10d, 8                bytes of its mask)
    ...[0x0f, 0x05], //                                syscall
    ...[0xc3], //                                      ret
    ...[0x4d, 0x8b, 0x48, 0x10], //           guarded: mov  r9, [r8 + 16]
    ...[0xf0, 0x41, 0xff, 0x01], //                    lock inc dword [r9]
    ...[0x48, 0x89, 0xc7], //                          mov  rdi, rax              mmap(the 2 MB around it,
    ...[0x48, 0x81, 0xe7, 0, 0, 0xe0, 0xff], //        and  rdi, -0x200000
    ...[0xbe, 0, 0, 0x20, 0], //                       mov  esi, 0x200000           2 MB,
    ...[0xba, 3, 0, 0, 0], //                          mov  edx, 3                  read and write,
    ...[0x41, 0xba, 0x32, 0x40, 0, 0], //              mov  r10d, 0x4032            private, fixed, anonymous, no reserve,
    ...[0x49, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff], //  mov  r8, -1                  no file,
    ...[0x45, 0x31, 0xc9], //                          xor  r9d, r9d                0)
    ...[0xb8, 9, 0, 0, 0], //                          mov  eax, 9
    ...[0x0f, 0x05], //                                syscall
    ...[0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff], //        cmp  rax, -4095
    ...[0x73, 0xa6], //                                jae  give                  refused: nothing is left but the default
    ...[0xc3], //                                      ret
  ]);
}

/** Address of the table, once the handler is in place; undefined where it cannot be. */
let installed: { readonly table: number | undefined } | undefined;
const used = new Set<number>();

function install(): number | undefined {
  if (arch !== 'x64') return undefined;
  const page = (what: string): number => mapMemory(what, 0, PAGE, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const table = page('the table of guarded memory');
  const code = page('the handler of bus errors');
  const bytes = handlerCode(table);
  native.memcpy(code, bytes, bytes.length);
  // a system that lets no page become executable (SELinux's execmem)
  if (native.mprotect(code, PAGE, PROT_READ_EXECUTE).value !== 0) return undefined;
  const action = Buffer.alloc(SIGACTION_BYTES);
  action.writeBigUInt64LE(BigInt(code), 0);
  action.writeInt32LE(SA_SIGINFO, SIGACTION_FLAGS);
  return native.sigaction(SIGBUS, action, 0).value === 0 ? table : undefined;
}

/**
 * Guards a range of addresses, for all threads of the process.
 * @param start first byte, a multiple of 2 MB; whole units of 2 MB in it belong to one peer each
 * @param counter address of a u32 that counts the faults
 * @returns how to end it; undefined where the process cannot be guarded: no x86-64, no executable pages, 16 ranges already
 */
export function guardFromBusErrors(start: number, bytes: number, counter: number): (() => void) | undefined {
  installed ??= { table: install() };
  const { table } = installed;
  if (table === undefined) return undefined;
  const slot = Array.from({ length: SLOTS }, (_, index) => index).find((index) => !used.has(index));
  if (slot === undefined) return undefined;
  used.add(slot);
  const entry = table + slot * ENTRY_BYTES;
  const write = (at: number, value: number): void => {
    native.memcpy(entry + at, Buffer.from(le64(value)), 8);
  };
  // the end makes an entry count: written last, and taken away first
  write(16, counter);
  write(0, start);
  write(8, start + bytes);
  return () => {
    write(8, 0);
    used.delete(slot);
  };
}
