/* The one part of the server that can read the private key. It signs digests, and that is all it
 * does. */
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <string.h>

#include "trusted.h"

static EC_KEY* key_of(const struct Trusted* trusted) {
  static EC_KEY* key;
  if (key == NULL) {
    BIO* const pem = BIO_new_mem_buf(trusted->pem, (int)trusted->pem_size);
    key = PEM_read_bio_ECPrivateKey(pem, NULL, NULL, NULL);
    BIO_free(pem);
  }
  return key;
}

/* The size of the signature; 0: there is none. The digest is copied first, for the handler may
 * change it meanwhile. */
long sign_digest(const struct Trusted* trusted, long size) {
  unsigned char digest[sizeof(trusted->handover->digest)];
  unsigned char signature[sizeof(trusted->handover->signature)];
  unsigned length = 0;
  EC_KEY* const key = key_of(trusted);
  if (size < 20 || size > (long)sizeof(digest)) return 0;
  if (key == NULL || ECDSA_size(key) > (int)sizeof(signature)) return 0;
  memcpy(digest, trusted->handover->digest, (size_t)size);
  if (ECDSA_sign(0, digest, (int)size, signature, &length, key) != 1) return 0;
  memcpy(trusted->handover->signature, signature, length);
  return length;
}
