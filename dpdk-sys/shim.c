#include "shim.h"

uint16_t culvert_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, packets, count);
}

uint16_t culvert_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, packets, count);
}

int culvert_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, packets, count);
}

int culvert_errno(void)
{
	return rte_errno;
}

bool culvert_link(uint16_t port, bool *up, uint32_t *mbps, bool *full_duplex)
{
	struct rte_eth_link link = {0};

	if (rte_eth_link_get_nowait(port, &link) != 0)
		return false;
	*up = link.link_status == RTE_ETH_LINK_UP;
	*mbps = link.link_speed;
	*full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return true;
}
