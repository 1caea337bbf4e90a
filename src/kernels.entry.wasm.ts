// What asc compiles: every kernel that JavaScript calls.
export { mbufAllocate, packetFree, packetsFree } from './memory/mempool.kernel';
export { cutPacket } from './net/cut-packet.kernel';
export { setEthernetAddresses, swapEthernetAddresses, swapFiveTuples } from './net/ethernet.kernel';
export { finishChecksum } from './net/finish-checksum.kernel';
export { finishPacketChecksum, insertVlan } from './net/finish-packet.kernel';
export { generatePackets, spreadFlows } from './net/generate.kernel';
export { stripVlans } from './net/vlan.kernel';
export { finishTransmit } from './ring/finish-transmit.kernel';
export { ringReceive, ringTransmit } from './ring/handle-ring.kernel';
export { nullReceive, nullTransmit } from './ring/null-queue.kernel';
export { packetReceive, packetRoom, packetTransmit } from './ring/packet-ring.kernel';
export { pcapReceive, pcapTransmit } from './ring/pcap-queue.kernel';
export { tapPlace, tapPrepare, tapReceive, tapSent } from './ring/tap-queue.kernel';
export { splitDeviceDequeue } from './ring/split-device-dequeue.kernel';
export { splitDeviceEnqueue } from './ring/split-device-enqueue.kernel';
export { splitDriverReceive, splitDriverRefill } from './ring/split-driver-receive.kernel';
export { splitDriverReclaim, splitDriverTransmit } from './ring/split-driver-transmit.kernel';
export { xdpReceive, xdpRoom, xdpTransmit } from './ring/xdp-queue.kernel';
