/* Everything that a client talks to: TLS and HTTP. It holds the certificate, and asks the gate for
 * signatures. And it has bugs that let a client do whatever such code could do:
 *
 *   GET /                 a greeting, with a random number
 *   GET /read/ADDR/SIZE   SIZE bytes of memory from ADDR on, as hexadecimal
 *   GET /write/ADDR       writes there
 *   GET /open/PATH        whether a file can be opened
 *   GET /sign/SIZE        what the gate says to a digest of that size */
#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "trusted.h"

/* The gate: the size of a digest in the handover, and that of its signature. */
long (*sign_gate)(long size);

static SSL_CTX* context;
static struct Handover* handover;

static int sign_by_gate(int type, const unsigned char* digest, int size, unsigned char* signature,
                        unsigned* length, const BIGNUM* kinv, const BIGNUM* r, EC_KEY* key) {
  (void)type, (void)kinv, (void)r;
  if (size < 0 || size > (int)sizeof(handover->digest)) return 0;
  memcpy(handover->digest, digest, (size_t)size);
  const long signed_size = sign_gate(size);
  if (signed_size <= 0 || signed_size > ECDSA_size(key)) return 0;
  memcpy(signature, handover->signature, (size_t)signed_size);
  *length = (unsigned)signed_size;
  return 1;
}

/* A private key without its secret: the certificate's public one, whose signatures are the gate's.
 */
static EVP_PKEY* key_by_gate(X509* certificate) {
  EC_KEY* const key = EVP_PKEY_get1_EC_KEY(X509_get0_pubkey(certificate));
  EC_KEY_METHOD* const method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
  EVP_PKEY* const result = EVP_PKEY_new();
  if (key == NULL || method == NULL || result == NULL) return NULL;
  EC_KEY_METHOD_set_sign(method, sign_by_gate, NULL, NULL);
  if (EC_KEY_set_method(key, method) != 1 || EVP_PKEY_set1_EC_KEY(result, key) != 1) return NULL;
  EC_KEY_free(key);
  return result;
}

/* Once, before there are clients. 0: it went well. */
int prepare(const char* pem, long size) {
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
  BIO* const text = BIO_new_mem_buf(pem, (int)size);
  X509* const certificate = PEM_read_bio_X509(text, NULL, NULL, NULL);
  BIO_free(text);
  context = SSL_CTX_new(TLS_server_method());
  if (certificate == NULL || context == NULL) return 1;
  /* Each client meets a handler that knows of no other. */
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  EVP_PKEY* const key = key_by_gate(certificate);
  if (key == NULL || SSL_CTX_use_certificate(context, certificate) != 1) return 2;
  return SSL_CTX_use_PrivateKey(context, key) == 1 ? 0 : 3;
}

/* All handlers begin as copies of one: what is random has to be made so again. */
static int renew_randomness(void) {
  EVP_RAND_CTX* const generators[] = {RAND_get0_primary(NULL), RAND_get0_public(NULL),
                                      RAND_get0_private(NULL)};
  for (size_t i = 0; i < sizeof(generators) / sizeof(generators[0]); ++i) {
    unsigned char fresh[48];
    if (getrandom(fresh, sizeof(fresh), 0) != sizeof(fresh) ||
        EVP_RAND_reseed(generators[i], 0, fresh, sizeof(fresh), NULL, 0) != 1) {
      return 0;
    }
  }
  return 1;
}

static char* hexadecimal(const volatile unsigned char* bytes, size_t size, char* to) {
  for (size_t i = 0; i < size; ++i) sprintf(to + 2 * i, "%02x", bytes[i]);
  return to;
}

/* What there should not be. */
static int obey(const char* path, char* body, size_t room) {
  unsigned long address = 0, size = 0;
  char name[256];
  if (sscanf(path, "/read/%lx/%lu", &address, &size) == 2 && size <= 1024) {
    hexadecimal((const unsigned char*)address, size, body);
  } else if (sscanf(path, "/write/%lx", &address) == 1) {
    *(volatile unsigned char*)address = 0;
    snprintf(body, room, "written");
  } else if (sscanf(path, "/open%255s", name) == 1) {
    const int fd = open(name, O_RDONLY);
    snprintf(body, room, "%s", fd >= 0 ? "opened" : strerror(errno));
  } else if (sscanf(path, "/sign/%ld", (long*)&size) == 1) {
    snprintf(body, room, "%ld", sign_gate((long)size));
  } else {
    return 0;
  }
  return 1;
}

static void answer(SSL* client, const char* path) {
  char body[4096], head[256], number[33];
  unsigned char random[16];
  if (strcmp(path, "/") == 0 && RAND_bytes(random, sizeof(random)) == 1) {
    snprintf(body, sizeof(body), "hello %s", hexadecimal(random, sizeof(random), number));
  } else if (!obey(path, body, sizeof(body))) {
    snprintf(body, sizeof(body), "no such page");
  }
  const int size =
      snprintf(head, sizeof(head),
               "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", strlen(body));
  if (SSL_write(client, head, size) == size) SSL_write(client, body, (int)strlen(body));
}

/* One client, on the descriptor. 0: it was answered. */
int serve(int descriptor, struct Handover* given) {
  char request[2048], path[1024];
  int status = 1;
  handover = given;
  if (!renew_randomness()) return 2;
  SSL* const client = SSL_new(context);
  if (client == NULL || SSL_set_fd(client, descriptor) != 1) return 3;
  if (SSL_accept(client) == 1) {
    const int size = SSL_read(client, request, sizeof(request) - 1);
    if (size > 0) {
      request[size] = 0;
      if (sscanf(request, "GET %1023s", path) == 1) {
        answer(client, path);
        status = 0;
      }
    }
    SSL_shutdown(client);
  }
  SSL_free(client);
  return status;
}
