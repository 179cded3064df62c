/* What the key's keeper is given beside the request: an argument of the gate that the handler can
 * neither see nor change, in the region that has the private key.
 *
 * A digest and its signature pass through the handover, a region that both sides have: the keeper
 * takes no address from the handler. For C and C++. */
#ifndef DUNEBOX_EXAMPLES_PRIVSEP_TRUSTED_H_
#define DUNEBOX_EXAMPLES_PRIVSEP_TRUSTED_H_

struct Handover {
  unsigned char digest[64];
  unsigned char signature[192];
};

struct Trusted {
  struct Handover* handover;
  long pem_size;
  char pem[4000]; /* the private key */
};

#endif /* DUNEBOX_EXAMPLES_PRIVSEP_TRUSTED_H_ */
