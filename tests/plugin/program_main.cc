// Makes a program of what is otherwise a library.
int main() { return 0; }
