// What asc compiles: every kernel that JavaScript calls.
export { mbufAllocate, packetFree, packetsFree } from './memory/mempool.kernel';
export { setEthernetAddresses, swapEthernetAddresses, swapFiveTuples } from './net/ethernet.kernel';
export { generatePackets, spreadFlows } from './net/generate.kernel';
export { ringReceive, ringTransmit } from './ring/handle-ring.kernel';
export { nullReceive, nullTransmit } from './ring/null-queue.kernel';
export { packetReceive, packetRoom, packetTransmit } from './ring/packet-ring.kernel';
export { pcapReceive, pcapTransmit } from './ring/pcap-queue.kernel';
export { splitDeviceDequeue } from './ring/split-device-dequeue.kernel';
export { splitDeviceEnqueue } from './ring/split-device-enqueue.kernel';
export { splitDriverReceive, splitDriverRefill } from './ring/split-driver-receive.kernel';
export { splitDriverReclaim, splitDriverTransmit } from './ring/split-driver-transmit.kernel';
