"""Clients of privsep, real ones: python's ssl, with the server's certificate as its only authority.

  clients.py greet PORT CERTIFICATE COUNT     checks the answers, and that no two were drawn alike
  clients.py get PORT CERTIFICATE PATH        prints the body; status 3: the server gave none
"""
import socket
import ssl
import sys


def get(port, certificate, path):
    context = ssl.create_default_context(cafile=certificate)
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        with context.wrap_socket(connection, server_hostname="localhost") as client:
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b""
            try:
                while part := client.recv(4096):
                    answer += part
            except (ssl.SSLError, ConnectionError):
                pass
    return answer.partition(b"\r\n\r\n")[2].decode()


def main():
    what, port, certificate, argument = sys.argv[1:]
    if what == "get":
        body = get(int(port), certificate, argument)
        print(body)
        sys.exit(0 if body else 3)
    bodies = {get(int(port), certificate, "/") for _ in range(int(argument))}
    if len(bodies) != int(argument) or not all(body.startswith("hello ") for body in bodies):
        sys.exit(f"answers: {bodies}")


main()
