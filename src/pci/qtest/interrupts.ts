/**
 * How a function of a QEMU interrupts us. Nobody runs on its CPU, so a message of MSI-X goes where we can see it, and a line is watched.
 *
 * - the doorbell (doorbell.ts): the message signals an eventfd; nobody but QEMU and the one who waits for it has to do with it
 * - words in shared memory: the message is a word there, which the main thread looks at, a thousand times a second, while they are enabled
 * - a line: QEMU says on the qtest link that an input of its I/O APIC was raised
 * @module
 */
import type { TransportInterrupts } from '../../backend/virtio-transport.ts';
import type { Arena } from '../../memory/arena.ts';
import { VirtioError } from '../../system/error.ts';
import { signalEventFd } from '../../system/event-fd.ts';
import type { Doorbell } from './doorbell.ts';
import type { MsixTable } from './msix.ts';

const LOOK_MILLISECONDS = 1;
const WORD_BYTES = 4;
/** How often a line that stays high is told again. */
const AGAIN_MILLISECONDS = 100;

function checkCount(name: string, wanted: number, count: number): void {
  if (wanted > count) {
    throw new VirtioError(
      `${name}: ${String(wanted)} interrupts wanted, and the device has ${String(count)}; give it more with vectors=N`,
      {
        code: 'ENOSPC',
      },
    );
  }
}

/** Messages that signal event descriptors themselves. */
export function doorbellInterrupts(name: string, table: MsixTable, doorbell: Doorbell): TransportInterrupts {
  /** Those that QEMU was told of last. A driver that starts anew has the same ones. */
  let shared: { readonly descriptors: readonly number[]; readonly address: number; readonly firstValue: number } | undefined;
  return {
    kind: 'msix',
    count: table.count,
    async enable(descriptors) {
      checkCount(name, descriptors.length, table.count);
      await table.enable(false);
      const isKnown =
        shared?.descriptors.length === descriptors.length && descriptors.every((fd, index) => shared?.descriptors[index] === fd);
      if (!isKnown || shared === undefined) shared = { descriptors: [...descriptors], ...(await doorbell.share(descriptors)) };
      for (const index of descriptors.keys()) await table.set(index, { low: shared.address, high: 0, data: shared.firstValue + index });
      await table.enable(true);
    },
    disable: () => table.enable(false),
  };
}

/** Messages that are words in the published part of the arena. @param addressHigh high word of the arena's place in the guest */
export function wordInterrupts(name: string, table: MsixTable, arena: Arena, addressHigh: number): TransportInterrupts {
  let words: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const disable = async (): Promise<void> => {
    clearInterval(timer);
    if (words === undefined) return;
    const taken = words;
    words = undefined;
    try {
      await table.enable(false);
    } finally {
      arena.published.release(taken);
    }
  };
  return {
    kind: 'msix',
    count: table.count,
    async enable(descriptors) {
      checkCount(name, descriptors.length, table.count);
      await disable();
      const first = arena.allocatePublished(WORD_BYTES * Math.max(1, descriptors.length), `the interrupts of ${name}`);
      words = first;
      for (const index of descriptors.keys()) {
        await table.set(index, { low: first + WORD_BYTES * index, high: addressHigh, data: 1 });
      }
      await table.enable(true);
      timer = setInterval(() => {
        for (const [index, descriptor] of descriptors.entries()) {
          if (Atomics.exchange(arena.views.i32, (first >>> 2) + index, 0) !== 0) signalEventFd(descriptor);
        }
      }, LOOK_MILLISECONDS).unref();
    },
    disable,
  };
}

/**
 * The line that all functions of the machine share. It is level-triggered: as long as it is high, somebody has not been heard.
 * @param watch calls its listener whenever the line changes, until the returned function is called
 * @param isAsserted whether this function holds it high
 */
export function lineInterrupt(
  name: string,
  watch: (onChange: (high: boolean) => void) => Promise<() => void>,
  isAsserted: () => Promise<boolean>,
): TransportInterrupts {
  let end: (() => void) | undefined;
  const disable = (): Promise<void> => {
    end?.();
    end = undefined;
    return Promise.resolve();
  };
  return {
    kind: 'line',
    count: 1,
    async enable(descriptors) {
      const [descriptor] = descriptors;
      if (descriptor === undefined || descriptors.length > 1) {
        throw new VirtioError(`${name}: ${String(descriptors.length)} interrupts wanted, and a line is one; irq=msix has one a queue`, {
          code: 'ENOSPC',
        });
      }
      await disable();
      // whoever hears of it reads the interrupt status, which lowers the line
      let high = false;
      const tell = (): void => {
        if (high) signalEventFd(descriptor);
      };
      const timer = setInterval(tell, AGAIN_MILLISECONDS).unref();
      end = (): void => {
        clearInterval(timer);
      };
      const unwatch = await watch((now) => {
        high = now;
        tell();
      });
      end = (): void => {
        clearInterval(timer);
        unwatch();
      };
      // it may have been raised before anybody looked
      high ||= await isAsserted();
      tell();
    },
    disable,
  };
}
