// Starts and stops a port on a PCI device fifty times, and opens and closes it ten times, by the library; says what the process holds of
// vfio in between. Run in the test machine: node test/vm/vfio-starts.mjs ADDRESS
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { createEnvironment, openPort } from '../../dist/index.js';

const [address = ''] = process.argv.slice(2);

function held() {
  const files = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });
  const count = (list, pattern) => list.filter((text) => pattern.test(text)).length;
  return {
    files: count(files, /vfio/),
    eventfds: count(files, /eventfd/),
    mappings: count(readFileSync('/proc/self/maps', 'latin1').split('\n'), /vfio/),
    vectors: count(readFileSync('/proc/interrupts', 'latin1').split('\n'), /vfio-msix/),
  };
}
/** The thread that waits for events ends in its own time. */
async function heldAtLast() {
  for (let tries = 0; tries < 50 && held().eventfds > before.eventfds; tries++) await setTimeout(100);
  return held();
}
const say = (name, value) => console.log(`${name}: ${JSON.stringify(value)}`);

const environment = createEnvironment({ mbufs: 2048 });
const before = held();
say('before', before);
const port = await openPort(address, { environment });
await port.start();
const first = held();
say('started', first);
for (let round = 1; round < 50; round++) {
  await port.stop();
  await port.start();
}
say('started again', held());
await port.stop();
await port.close();
say('closed', await heldAtLast());
for (let round = 0; round < 10; round++) {
  const again = await openPort(address, { environment });
  if (round % 2 === 0) await again.start();
  await again.close();
}
say('closed again', await heldAtLast());
await environment.close();
