/**
 * Feature bits, spelt as in the specification. A set of features is a bigint: virtio 1.4 has more than 64. Control path only.
 * @module
 */
const bit = (number: number): bigint => 1n << BigInt(number);

// virtio 1.2, 5.1.3
export const VIRTIO_NET_F_CSUM = bit(0);
export const VIRTIO_NET_F_GUEST_CSUM = bit(1);
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = bit(2);
export const VIRTIO_NET_F_MTU = bit(3);
export const VIRTIO_NET_F_MAC = bit(5);
export const VIRTIO_NET_F_GUEST_TSO4 = bit(7);
export const VIRTIO_NET_F_GUEST_TSO6 = bit(8);
export const VIRTIO_NET_F_GUEST_ECN = bit(9);
export const VIRTIO_NET_F_GUEST_UFO = bit(10);
export const VIRTIO_NET_F_HOST_TSO4 = bit(11);
export const VIRTIO_NET_F_HOST_TSO6 = bit(12);
export const VIRTIO_NET_F_HOST_ECN = bit(13);
export const VIRTIO_NET_F_HOST_UFO = bit(14);
export const VIRTIO_NET_F_MRG_RXBUF = bit(15);
export const VIRTIO_NET_F_STATUS = bit(16);
export const VIRTIO_NET_F_CTRL_VQ = bit(17);
export const VIRTIO_NET_F_CTRL_RX = bit(18);
export const VIRTIO_NET_F_CTRL_VLAN = bit(19);
export const VIRTIO_NET_F_CTRL_RX_EXTRA = bit(20);
export const VIRTIO_NET_F_GUEST_ANNOUNCE = bit(21);
export const VIRTIO_NET_F_MQ = bit(22);
export const VIRTIO_NET_F_CTRL_MAC_ADDR = bit(23);
export const VIRTIO_NET_F_VQ_NOTF_COAL = bit(52);
export const VIRTIO_NET_F_NOTF_COAL = bit(53);
export const VIRTIO_NET_F_GUEST_USO4 = bit(54);
export const VIRTIO_NET_F_GUEST_USO6 = bit(55);
export const VIRTIO_NET_F_HOST_USO = bit(56);
export const VIRTIO_NET_F_HASH_REPORT = bit(57);
export const VIRTIO_NET_F_RSS = bit(60);
export const VIRTIO_NET_F_RSC_EXT = bit(61);
export const VIRTIO_NET_F_SPEED_DUPLEX = bit(63);
/** The control queue and what needs it (virtio 1.2, 5.1.3.1). */
export const CONTROL_QUEUE_FEATURES =
  VIRTIO_NET_F_CTRL_VQ |
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS |
  VIRTIO_NET_F_CTRL_RX |
  VIRTIO_NET_F_CTRL_VLAN |
  VIRTIO_NET_F_CTRL_RX_EXTRA |
  VIRTIO_NET_F_GUEST_ANNOUNCE |
  VIRTIO_NET_F_MQ |
  VIRTIO_NET_F_CTRL_MAC_ADDR |
  VIRTIO_NET_F_VQ_NOTF_COAL |
  VIRTIO_NET_F_NOTF_COAL |
  VIRTIO_NET_F_HASH_REPORT |
  VIRTIO_NET_F_RSS;
// virtio 1.2, 6
export const VIRTIO_F_ANY_LAYOUT = bit(27);
export const VIRTIO_F_INDIRECT_DESC = bit(28);
export const VIRTIO_F_EVENT_IDX = bit(29);
export const VIRTIO_F_VERSION_1 = bit(32);
export const VIRTIO_F_ACCESS_PLATFORM = bit(33);
export const VIRTIO_F_RING_PACKED = bit(34);
export const VIRTIO_F_IN_ORDER = bit(35);
export const VIRTIO_F_ORDER_PLATFORM = bit(36);
export const VIRTIO_F_NOTIFICATION_DATA = bit(38);
export const VIRTIO_F_NOTIF_CONFIG_DATA = bit(39);
export const VIRTIO_F_RING_RESET = bit(40);
// vhost-user
export const VHOST_USER_F_PROTOCOL_FEATURES = bit(30);

// virtio 1.2, 2.1
export const VIRTIO_STATUS_ACKNOWLEDGE = 1;
export const VIRTIO_STATUS_DRIVER = 2;
export const VIRTIO_STATUS_DRIVER_OK = 4;
export const VIRTIO_STATUS_FEATURES_OK = 8;
export const VIRTIO_STATUS_NEEDS_RESET = 64;
export const VIRTIO_STATUS_FAILED = 128;
