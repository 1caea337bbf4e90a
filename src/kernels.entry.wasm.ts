// What asc compiles: every kernel that JavaScript calls.
export { mbufAllocate, packetFree, packetsFree } from './memory/mempool.kernel';
export { setEthernetAddresses, swapEthernetAddresses, swapFiveTuples } from './net/ethernet.kernel';
export { generatePackets, spreadFlows } from './net/generate.kernel';
export { ringReceive, ringTransmit } from './ring/handle-ring.kernel';
export { nullReceive, nullTransmit } from './ring/null-queue.kernel';
export { splitDeviceDequeue, splitDeviceEnqueue } from './ring/split-device.kernel';
export { splitDriverReceive, splitDriverReclaim, splitDriverRefill, splitDriverTransmit } from './ring/split-driver.kernel';
