# program: threads
break at_rest
start_program
thread apply all -s -q frame function main
thread apply all -s -q frame function spins
thread apply all -s -q frame function waits
continue
print handled
continue
