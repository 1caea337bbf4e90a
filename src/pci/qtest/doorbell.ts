/**
 * Event descriptors between this process and the devices of a QEMU, past the qtest socket and past our main thread: QEMU's own
 * `ivshmem-doorbell` does the translation, with us as its server (QEMU: docs/specs/ivshmem-spec.rst).
 *
 *     kick       lcore writes eventfd --> ivshmem raises vector V --> its MSI-X entry V is a write to the notify register of ring R
 *     interrupt  ring R raises vector --> its MSI-X entry is a write to ivshmem's doorbell register --> QEMU writes eventfd R
 *
 * An MSI-X message is an ordinary write on the bus, so each of the two devices can have the other's registers as the place of its messages.
 * @module
 */
import { VirtioError } from '../../system/error.ts';
import { clearEventFd, closeFd, createEventFd } from '../../system/event-fd.ts';
import { createMemoryFile, resizeFile } from '../../system/memory-map.ts';
import { sendUnix, unixSocketPair } from '../../system/unix-socket.ts';
import type { Registers, RelayTarget } from '../pci-function.ts';
import type { MsixTable } from './msix.ts';

/** What QEMU insists on sharing; nothing lies in it. */
const SHARED_BYTES = 4096;
const PROTOCOL_VERSION = 0n;
const SHARED_MEMORY = -1n;
/** Numbers of peers: QEMU's own, and the first of those whose descriptors are ours. */
const QEMU_ID = 0;
const FIRST_PEER = 1;
const LAST_PEER = 0xffff;
const DOORBELL_REGISTER = 12;
/** Turns of QEMU's main loop until it has read what it was sent. */
const LOOKS = 1000;

/** Where a doorbell is, once its device has been found and its BARs are placed. */
export interface DoorbellDevice {
  readonly registers: Registers;
  readonly table: MsixTable;
}

export class Doorbell {
  /** Vectors of the device: rings that are kicked, and interrupts of one function plus 1. */
  readonly vectors: number;
  readonly #own: number;
  #theirs: number | undefined;
  readonly #kicks: readonly number[];
  readonly #freeVectors: number[];
  #nextPeer = FIRST_PEER;
  #device: DoorbellDevice | undefined;
  #open = true;

  constructor(vectors: number) {
    this.vectors = vectors;
    const [own, theirs] = unixSocketPair("the doorbell's socket");
    this.#own = own;
    this.#theirs = theirs;
    this.#kicks = Array.from({ length: vectors }, () => createEventFd());
    this.#freeVectors = Array.from(this.#kicks.keys()).reverse();
    const shared = createMemoryFile('dpdk-ts-doorbell', SHARED_BYTES);
    try {
      resizeFile(shared, SHARED_BYTES, "the doorbell's memory");
      this.#send(PROTOCOL_VERSION);
      this.#send(BigInt(QEMU_ID));
      this.#send(SHARED_MEMORY, shared);
      for (const kick of this.#kicks) this.#send(BigInt(QEMU_ID), kick);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      closeFd(shared);
    }
  }

  /** The end of the socket that QEMU gets as a descriptor of its own. */
  get qemuEnd(): number {
    if (this.#theirs === undefined) throw new Error('QEMU has its end already');
    return this.#theirs;
  }

  /** QEMU has been started: what it inherited is closed here. */
  handedOver(): void {
    if (this.#theirs !== undefined) closeFd(this.#theirs);
    this.#theirs = undefined;
  }

  async attach(device: DoorbellDevice): Promise<void> {
    await device.table.enable(true);
    this.#device = device;
  }

  /**
   * An eventfd whose signal is a write to a register of any device of the machine. The descriptor stays open until the doorbell closes:
   * an lcore may write it for a while after `close`.
   */
  async relay(target: RelayTarget): Promise<{ readonly fd: number; close(): void }> {
    const { table } = this.#attached();
    const vector = this.#freeVectors.pop();
    const fd = vector === undefined ? undefined : this.#kicks[vector];
    if (vector === undefined || fd === undefined) {
      throw new VirtioError(`the doorbell has ${String(this.vectors)} vectors, and all of them are in use`, { code: 'EBUSY' });
    }
    await table.set(vector, { low: target.address, high: 0, data: target.value });
    let open = true;
    return {
      fd,
      close: () => {
        if (!open) return;
        open = false;
        const free = (): void => void this.#freeVectors.push(vector);
        // when QEMU is gone nobody reads it either
        table.mask(vector).then(free, free);
      },
    };
  }

  /**
   * Tells QEMU of descriptors that its devices may signal, for good: QEMU 7.2 dies when it is told that a peer has gone (it goes on to use
   * memory that it has freed), within a second or two.
   * @returns the address of the register, and what is written there for the first descriptor; one more for each next
   */
  async share(descriptors: readonly number[]): Promise<{ readonly address: number; readonly firstValue: number }> {
    const { registers } = this.#attached();
    if (descriptors.length >= this.vectors) {
      throw new VirtioError(`${String(descriptors.length)} interrupts, and the doorbell has ${String(this.vectors - 1)}`, {
        code: 'ENOSPC',
      });
    }
    if (this.#nextPeer > LAST_PEER) {
      throw new VirtioError('the descriptors of interrupts have changed too often: QEMU knows 65535 sets of them', { code: 'ENOSPC' });
    }
    const firstValue = this.#nextPeer++ * 0x1_0000;
    const read = createEventFd();
    try {
      for (const descriptor of [...descriptors, read]) this.#send(BigInt(firstValue / 0x1_0000), descriptor);
      // its own end of the socket is not the one of qtest: it has read all of it when the last one can be signalled
      for (let looks = 0; !clearEventFd(read); looks++) {
        if (looks === LOOKS) throw new VirtioError('QEMU does not take the descriptors of interrupts', { code: 'ETIMEDOUT' });
        await registers.write(DOORBELL_REGISTER, 4, firstValue + descriptors.length);
      }
    } finally {
      closeFd(read);
    }
    return { address: (registers.address ?? 0) + DOORBELL_REGISTER, firstValue };
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.handedOver();
    closeFd(this.#own);
    for (const fd of this.#kicks) closeFd(fd);
  }

  #attached(): DoorbellDevice {
    if (this.#device === undefined) throw new Error('the doorbell has not been found on the bus yet');
    return this.#device;
  }

  #send(value: bigint, descriptor?: number): void {
    const message = Buffer.alloc(8);
    message.writeBigInt64LE(value);
    const sent = sendUnix(this.#own, "QEMU's doorbell", message, descriptor === undefined ? [] : [descriptor]);
    if (sent !== message.length) throw new VirtioError("QEMU's doorbell reads nothing", { code: 'EAGAIN' });
  }
}
