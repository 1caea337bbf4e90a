// Resets of a device through vfio: one ring after the other while the device runs (VIRTIO_F_RING_RESET), and the whole function by the
// bus. Run in the test machine: node test/vm/vfio-resets.mjs ADDRESS...
import { Arena } from '../../dist/memory/arena.js';
import { readPciDevice } from '../../dist/pci/sysfs.js';
import { VfioFunction } from '../../dist/pci/vfio-function.js';
import { VirtioModern } from '../../dist/pci/virtio-modern.js';

/** Version 1, access platform, ring reset. */
const FEATURES = (1n << 32n) | (1n << 33n) | (1n << 40n);
const DRIVER = 3;
const FEATURES_OK = 11;
const DRIVER_OK = 15;
const SIZE = 256;

const arena = new Arena({ bytes: 4 << 20, ownBytes: 2 << 20, peerBytes: 64 << 20 });
const rings = [0, 1].map(() => {
  const descriptors = arena.allocatePublished(0x3000, 'a ring', 4096);
  return { size: SIZE, descriptors, available: descriptors + 0x1000, used: descriptors + 0x2000 };
});

for (const address of process.argv.slice(2)) {
  const pci = new VfioFunction({ arena, device: readPciDevice(address) });
  const virtio = await VirtioModern.open(pci);
  await virtio.reset();
  const offered = await virtio.readFeatures();
  if ((offered & FEATURES) !== FEATURES) throw new Error(`${address} offers 0x${offered.toString(16)}`);
  await virtio.shareMemory();
  await virtio.writeStatus(DRIVER);
  await virtio.writeFeatures(FEATURES);
  await virtio.writeStatus(FEATURES_OK);
  for (const [index, ring] of rings.entries()) await virtio.setRing(index, ring, undefined);
  await virtio.writeStatus(DRIVER_OK);
  for (const [index, ring] of rings.entries()) {
    await virtio.resetRing(index);
    await virtio.setRing(index, ring, undefined);
  }
  const status = await virtio.readStatus();
  const byBus = await pci.reset();
  console.log(`${address}: rings reset at status ${status}, by the bus ${byBus}, then ${await virtio.readStatus()}`);
  await virtio.reset();
  await virtio.close();
}
arena.close();
