# A certificate made by openssl, then TLS 1.2 and 1.3 in memory and over a socket pair.
# sandbox: whole
# needs: /usr/bin/python3 openssl
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null; echo "openssl $?"
openssl verify -CAfile cert.pem cert.pem
openssl x509 -in cert.pem -noout -subject -ext subjectAltName
echo secret | openssl enc -aes-256-cbc -pbkdf2 -pass pass:x | openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:x
/usr/bin/python3 - <<'END'
import socket, ssl, threading
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain("cert.pem", "key.pem")
    client = ssl.create_default_context(cafile="cert.pem"); client.minimum_version = client.maximum_version = version
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(a, b, server_hostname="localhost"), server.wrap_bio(b, a, server_side=True)]; done = [False, False]
    while not all(done):
        for i, e in enumerate(ends):
            try: e.do_handshake(); done[i] = True
            except ssl.SSLWantReadError: pass
    ends[0].write(b"ping"); print(ends[1].read(), ends[0].version(), ends[0].cipher()[0], ends[0].getpeercert()["subject"])
    x, y = socket.socketpair(); got = []
    def run():
        s = server.wrap_socket(y, server_side=True); data = b""
        while len(data) < 300000: data += s.recv(65536)
        got.append(len(data)); s.sendall(b"thanks"); s.close()
    t = threading.Thread(target=run); t.start(); c = client.wrap_socket(x, server_hostname="localhost"); c.sendall(b"x" * 300000); print(c.recv(9)); t.join(); print(got); c.close()
    bad = ssl.create_default_context(); p, q = socket.socketpair()
    def refuse():
        try: server.wrap_socket(q, server_side=True)
        except (ssl.SSLError, OSError): q.close()
    t = threading.Thread(target=refuse); t.start()
    try: bad.wrap_socket(p, server_hostname="localhost")
    except ssl.SSLCertVerificationError as e: print(e.verify_message)
    p.close(); t.join()
END
status=$?; echo "status $status"; rm -f key.pem cert.pem
exit $status
