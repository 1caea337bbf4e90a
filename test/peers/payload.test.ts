/**
 * Every byte of every packet: DPDK reads packets from a capture file, sends them to our side, which sends them back, and writes what
 * returns to another file.
 * @module
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { until } from '../support/deadline.ts';
import { Pair, SocketDirectory, type SideOptions } from '../support/pair.ts';
import { readPcap, writePcap } from '../support/pcap-file.ts';
import { otherSide } from '../support/traffic.ts';
import { MEETINGS, WHY_NO_PEERS } from './matrix.ts';

/** More packets than a ring holds, so that its indices pass the end several times. */
const PACKETS = 2000;

/** Bytes without a pattern, and the same in every run. */
function packetBytes(number: number, length: number): Uint8Array {
  const packet = Buffer.alloc(length);
  for (let offset = 0; offset < length; offset += 32) {
    createHash('sha256').update(`${number} ${offset}`).digest().copy(packet, offset);
  }
  packet.writeUInt8(0x02, 0);
  packet.writeUInt8(0x02, 6);
  return packet;
}

const made = new Map<number, readonly Uint8Array[]>();

/** The same ones for every test. */
function packetsUpTo(largest: number): readonly Uint8Array[] {
  const known = made.get(largest);
  if (known !== undefined) return known;
  const sizes = [
    60, 61, 64, 65, 127, 128, 129, 255, 256, 257, 1500, 1514, 1518, 2000, 2035, 2036, 2037, 2048, 2049, 4096, 8999, 9000,
  ].filter((size) => size <= largest);
  const packets = Array.from({ length: PACKETS }, (_, number) => packetBytes(number, sizes[number % sizes.length] ?? 60));
  made.set(largest, packets);
  return packets;
}

const FEATURES = [
  // a packet of several buffers needs mergeable ones; without, 2,000 bytes still fit one
  { mergeable: true, inOrder: true, largest: 9000 },
  { mergeable: true, inOrder: false, largest: 9000 },
  { mergeable: false, inOrder: true, largest: 2000 },
  { mergeable: false, inOrder: false, largest: 2000 },
  { mergeable: true, inOrder: true, packed: true, largest: 9000 },
  { mergeable: true, inOrder: false, packed: true, queueSize: 300, largest: 9000 },
  { mergeable: false, inOrder: true, packed: true, largest: 2000 },
] as const;

describe.skipIf(WHY_NO_PEERS !== undefined).each(MEETINGS)('$name', ({ driver, device, server, ours }) => {
  test.each(FEATURES)(
    'mrg_rxbuf $mergeable, in_order $inOrder, packed_vq $packed: packets come back byte for byte',
    async ({ largest, ...features }) => {
      using files = new SocketDirectory();
      const input = join(files.path, 'in.pcap');
      const output = join(files.path, 'out.pcap');
      const packets = packetsUpTo(largest);
      writePcap(input, packets);
      const captures: Omit<SideOptions, 'program'> = {
        eal: ['--vdev', `net_pcap0,rx_pcap=${input},tx_pcap=${output}`],
        // what is flushed at the start would be the first packets of the file
        app: ['--no-flush-rx', '--burst=16'],
        // one lcore for each direction: a single one that waits for room would not take what makes the room
        lcores: 2,
      };
      const theirs = otherSide(ours);
      await using pair = await Pair.start({
        driver: { program: driver, ...(theirs === 'driver' ? captures : {}) },
        device: { program: device, ...(theirs === 'device' ? captures : {}) },
        server,
        ...features,
      });
      // a side that waits 64 us in vain drops the burst, unless told to wait longer
      const patient = ['set fwd io retry', 'set burst tx delay 10 retry 100000', 'start'];
      await pair[ours].commands(...patient);
      await pair[theirs].commands(...patient);
      const port = pair.port(theirs);
      await until(
        10_000,
        () => `all packets back\n${pair[theirs].transcript()}\n${pair[ours].transcript()}`,
        async () => (await pair[theirs].statistics(port)).rxPackets >= packets.length,
      );
      await pair[theirs].command('stop');
      await pair[ours].command('stop');
      await pair.quit();
      const returned = readPcap(output);
      expect(returned.length).toBe(packets.length);
      const different = returned.findIndex((packet, number) => !packet.equals(packets[number] ?? new Uint8Array()));
      expect(different, `first packet that differs; ${returned[different]?.length} bytes`).toBe(-1);
    },
  );
});
