# program: single
break own_code
start_program
next
next
next
break add
continue
finish
backtrace
stepi
nexti
print $_exitcode
delete
continue
print $_exitcode
