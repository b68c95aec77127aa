/* The address that a user gives a card with --net …,ip=: for a program's own network; a kernel has
 * its own ways. IPv4, in network order; address 0: none was given. */
#ifndef VIRTIO_ADDRESS_H
#define VIRTIO_ADDRESS_H

#include <stdint.h>

struct net_address {
    uint32_t address, mask, gateway, dns;
    uint32_t
        ahead; /* bytes for the guest that the network holds, and drops more; 0: no such limit */
};

struct virtio_dev;
/* Of a device that net_create() made. */
const struct net_address *net_address_of(const struct virtio_dev *dev);

#endif
