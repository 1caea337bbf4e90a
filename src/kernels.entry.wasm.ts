// What asc compiles: every kernel that JavaScript calls.
export { mbufAllocate, packetFree, packetsFree } from './memory/mempool.kernel';
export { cutLargePackets } from './net/cut-large.kernel';
export { cutFragments, cutPacket } from './net/cut-packet.kernel';
export { answerRequests } from './net/echo.kernel';
export { setEthernetAddresses, swapEthernetAddresses, swapFiveTuples } from './net/ethernet.kernel';
export { finishChecksum } from './net/finish-checksum.kernel';
export { finishPacketChecksum, insertVlan } from './net/finish-packet.kernel';
export { finishGathering, gatherPackets } from './net/gather.kernel';
export { generatePackets, spreadFlows } from './net/generate.kernel';
export { flowHash, flowLookup } from './net/flow-table.kernel';
export { recordLatency, stampPackets } from './net/latency.kernel';
export { lpmLookup } from './net/lpm.kernel';
export { routePackets } from './net/router.kernel';
export { markVlan } from './net/mark-vlan.kernel';
export { stripVlans } from './net/vlan.kernel';
export { finishTransmit } from './ring/finish-transmit.kernel';
export { recomputeChecksums } from './net/recompute-checksums.kernel';
export { captureBegin, captureCommit } from './ring/capture.kernel';
export { ringReceive, ringTransmit } from './ring/handle-ring.kernel';
export { nullReceive, nullTransmit } from './ring/null-queue.kernel';
export { packedDeviceDequeue } from './ring/packed-device-dequeue.kernel';
export { packedDeviceEnqueue } from './ring/packed-device-enqueue.kernel';
export { packetReceive, packetRoom, packetTransmit } from './ring/packet-ring.kernel';
export { packedDriverReceive, packedDriverRefill } from './ring/packed-driver-receive.kernel';
export { packedDriverReclaim, packedDriverTransmit } from './ring/packed-driver-transmit.kernel';
export { pcapReceive, pcapTransmit } from './ring/pcap-queue.kernel';
export { tapPlace, tapPrepare, tapReceive, tapSent } from './ring/tap-queue.kernel';
export { splitDeviceDequeue } from './ring/split-device-dequeue.kernel';
export { splitDeviceEnqueue } from './ring/split-device-enqueue.kernel';
export { splitDriverReceive, splitDriverRefill } from './ring/split-driver-receive.kernel';
export { splitDriverReclaim, splitDriverTransmit } from './ring/split-driver-transmit.kernel';
export {
  deviceArm,
  deviceDisarm,
  driverArm,
  driverDisarm,
  driverReclaim,
  driverRefill,
  virtqueueReceive,
  virtqueueTransmit,
} from './ring/virtqueue.kernel';
export { xdpReceive, xdpRoom, xdpTransmit } from './ring/xdp-queue.kernel';
