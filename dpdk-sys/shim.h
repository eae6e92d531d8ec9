/* What bindgen cannot take from DPDK's headers: the static inlines in use, macros with casts, and the positions of
 * fields that moved between releases. One line of reason each in src/lib.rs. It compiles unchanged against DPDK 22.11
 * and every later LTS release up to 25.11. */
#ifndef CULVERT_SHIM_H
#define CULVERT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Static inlines. */
uint16_t culvert_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);
uint16_t culvert_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);
int culvert_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count);
int culvert_errno(void);

/* Fields that are bit fields, or lie in another place, depending on the release. */
bool culvert_link(uint16_t port, bool *up, uint32_t *mbps, bool *full_duplex);

/* Positions in struct rte_mbuf. */
static const size_t CULVERT_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr);
static const size_t CULVERT_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off);
static const size_t CULVERT_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs);
static const size_t CULVERT_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len);
static const size_t CULVERT_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len);
static const size_t CULVERT_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len);
static const size_t CULVERT_MBUF_SIZE = sizeof(struct rte_mbuf);

/* Macros with casts in them, which bindgen does not evaluate. */
static const size_t CULVERT_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint64_t CULVERT_RSS_FLOWS = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP;
static const uint64_t CULVERT_RSS_INNERMOST = RTE_ETH_RSS_LEVEL_INNERMOST;
static const uint64_t CULVERT_RSS_LEVELS = RTE_ETH_RSS_LEVEL_MASK;
static const uint32_t CULVERT_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t CULVERT_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t CULVERT_SPEED_UNKNOWN = RTE_ETH_SPEED_NUM_UNKNOWN;
static const int CULVERT_SOCKET_ANY = SOCKET_ID_ANY;
static const int CULVERT_INTERRUPT_ADD = RTE_INTR_EVENT_ADD;
static const int CULVERT_INTERRUPT_REMOVE = RTE_INTR_EVENT_DEL;

#endif
