/**
 * ioctl: numbers of requests, and the call itself.
 *
 *     bits 30-31 direction: 0 none, 1 the kernel reads, 2 it writes, 3 both | 16-29 bytes | 8-15 type | 0-7 number
 *
 * So on x86-64 and arm64 alike (asm-generic/ioctl.h).
 * @module
 */
import { bindNative, type NativeResult } from './ffi.ts';

const native = {
  withBuffer: bindNative('ioctl', 'i32', ['i32', 'i64', 'buffer']),
  withValue: bindNative('ioctl', 'i32', ['i32', 'i64', 'i64']),
};

const request = (direction: number, type: number, number: number, bytes: number): number =>
  ((direction << 30) | (bytes << 16) | (type << 8) | number) >>> 0;

/** A request without an argument (_IO). */
export const requestPlain = (type: number, number: number): number => request(0, type, number, 0);
/** A request whose argument the kernel reads (_IOW). */
export const requestWrite = (type: number, number: number, bytes: number): number => request(1, type, number, bytes);
/** A request whose argument the kernel fills (_IOR). */
export const requestRead = (type: number, number: number, bytes: number): number => request(2, type, number, bytes);

/** @param argument memory that the kernel reads or fills, or a plain value; does not throw */
export function ioctl(fd: number, code: number, argument: number | Uint8Array = 0): NativeResult {
  return typeof argument === 'number' ? native.withValue(fd, code, argument) : native.withBuffer(fd, code, argument);
}
