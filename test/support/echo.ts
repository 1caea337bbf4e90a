/**
 * The proof that a port is well: an honest driver connects, sends a packet, and gets it back.
 * @module
 */
import { expect } from 'vitest';
import { bufferOffset, NET_HEADER_BYTES, RawDriver } from './raw-driver.ts';
import type { Victim } from './victim.ts';

/** Connects to port 0 of the victim as an honest driver and has it echo `packets` packets. */
export async function expectEcho(victim: Victim, packets = 3): Promise<void> {
  using driver = await RawDriver.connect(victim.socket);
  await driver.handshake();
  driver.offerReceiveBuffers(64);
  await echo(driver, packets);
}

/** Sends packets over a connection that is set up and has receive buffers, and compares what comes back. */
export async function echo(driver: RawDriver, packets: number): Promise<void> {
  const sentBefore = driver.usedIndex(1);
  const receivedBefore = driver.usedIndex(0);
  const bytesOf = (number: number): Buffer => Buffer.alloc(60 + number, number + 1);
  for (let number = 0; number < packets; number++) driver.sendPacket(bytesOf(number));
  await driver.waitForUsed(1, sentBefore + packets);
  await driver.waitForUsed(0, receivedBefore + packets);
  for (let number = 0; number < packets; number++) {
    const { id, length } = driver.usedElement(0, receivedBefore + number);
    const received = driver.read(bufferOffset(0, id) + NET_HEADER_BYTES, length - NET_HEADER_BYTES);
    expect(received.equals(bytesOf(number)), `packet ${number} comes back unchanged`).toBe(true);
  }
}
